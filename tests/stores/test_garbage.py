"""What nothing refers to goes once it is old; everything else stays, whoever is killed when."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

import pytest

from catalog_pipeline.errors import ConflictError, IntegrityError
from catalog_pipeline.records import AdapterVersion, ArchiveRow
from catalog_pipeline.stores.adapters import AdapterStore, Lease
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.garbage import (
    CollectionGarbage,
    Garbage,
    find_backdrops,
    find_images,
    find_staged_rows,
    remove,
)
from catalog_pipeline.stores.head import HeadObject
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore
from tests.builders import NIGHT, promote
from tests.stores.store_processes import Worker

MakeVersion = Callable[..., AdapterVersion]
Rendered = Callable[..., ArchiveRow]

only_local = pytest.mark.parametrize("location", ["local"], indirect=True)


def later(hours: float = 1.0) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


@pytest.fixture
def line(store: AdapterStore, make_version: MakeVersion) -> list[AdapterVersion]:
    """Four versions, each served once, the last one now."""
    versions: list[AdapterVersion] = []
    for number, sku in enumerate("abcd"):
        parent = versions[-1].version if versions else None
        skus = [*"abcd"[:number], sku]
        created = datetime(2026, 3, 1 + number, tzinfo=UTC)
        versions.append(make_version(store, *skus, parent=parent, created_utc=created))
        promote(store, versions[-1])
    return versions


def sweep(
    objects: ObjectStore,
    store: AdapterStore,
    *,
    keep: int | None = None,
    named: Collection[str] = (),
    before: datetime | None = None,
) -> list[Garbage]:
    with store.lease(timeout_seconds=5) as lease:
        found = CollectionGarbage(objects, store, keep=keep, named=named, before=before or later())
        expected = [*found.find(), *found.find_checkpoints()]
        removed = found.sweep(lease)
    assert removed == expected
    return removed


def whole(store: AdapterStore, *versions: AdapterVersion) -> None:
    for version in versions:
        assert store.read(version.version) == version
        for digest in version.parts.values():
            store.read_part(digest)


def test_every_version_and_what_it_needs_stays_by_default(
    store: AdapterStore, line: list[AdapterVersion], objects: ObjectStore
) -> None:
    orphan = store.write_part(b"of a run that was killed")
    objects.put("collections/default/pages/" + "0" * 64 + ".json", b"{}")
    store.write_staging("x.safetensors", b"half learned")
    store.rollback(line[1].version)
    removed = sweep(objects, store)
    assert [item.kind for item in removed] == ["page", "part", "checkpoint"]
    assert orphan not in store.part_names()
    whole(store, *line)
    store.rollback(line[3].version)
    assert sweep(objects, store) == []


def test_what_is_young_stays(
    store: AdapterStore, line: list[AdapterVersion], objects: ObjectStore
) -> None:
    store.write_part(b"of a run under way")
    store.write_staging("x.safetensors", b"half learned")
    assert sweep(objects, store, keep=1, before=datetime.now(UTC) - timedelta(hours=1)) == []
    whole(store, *line)


def test_old_versions_go_when_a_number_is_kept(
    store: AdapterStore, line: list[AdapterVersion], objects: ObjectStore
) -> None:
    removed = sweep(objects, store, keep=1, named={line[0].version})
    assert {item.kind for item in removed} == {"version", "page"}
    assert set(store.version_names()) == {line[0].version, line[3].version}
    whole(store, line[0], line[3])


def test_a_rollback_can_be_taken_back_after_a_sweep(
    store: AdapterStore, line: list[AdapterVersion], objects: ObjectStore
) -> None:
    store.rollback(line[0].version)
    sweep(objects, store, keep=1)
    assert set(store.version_names()) == {line[0].version, line[3].version}
    store.rollback(line[3].version)
    assert store.current() == line[3]


def test_a_part_goes_with_the_last_version_that_needs_it(
    store: AdapterStore, make_version: MakeVersion, objects: ObjectStore
) -> None:
    first, second = make_version(store, "a", "b"), make_version(store, "b")
    promote(store, first)
    store.publish(second)
    store.rollback(second.version)
    sweep(objects, store, keep=1, before=later())
    assert set(store.version_names()) <= {first.version, second.version}
    whole(store, second)


def test_nothing_goes_while_a_record_cannot_be_read(
    store: AdapterStore, line: list[AdapterVersion], objects: ObjectStore
) -> None:
    objects.put(f"collections/default/versions/{line[0].version}.json", b"rotten")
    before = objects.list("")
    found = CollectionGarbage(objects, store, keep=1, named=(), before=later())
    with (
        pytest.raises(IntegrityError, match=f"{line[0].version} cannot be read"),
        store.lease(timeout_seconds=5) as lease,
    ):
        found.sweep(lease)
    assert [key for key in before if "LEASE" not in key] == [
        key for key in objects.list("") if "LEASE" not in key
    ]


def test_content_that_is_used_again_is_young_again(
    store: AdapterStore, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog_pipeline.stores.objects.REWRITTEN_AFTER", timedelta(hours=-1))
    store.write_part(b"weights")
    (info,) = objects.scan("collections/default/parts/")
    while objects.info(info.key).modified_utc == info.modified_utc:
        store.write_part(b"weights")
    assert not objects.delete_if_older(info.key, info.modified_utc + timedelta(microseconds=1))
    assert objects.delete_if_older(info.key, later())
    assert not objects.delete_if_older(info.key, later())


def test_content_that_went_in_between_is_written_again(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "images/sha256=" + "0" * 64 + ".png"
    monkeypatch.setattr(objects, "put_if_absent", lambda *_: False)  # it was there a moment ago
    objects.put_content(key, b"x")
    assert objects.exists(key)


@only_local
def test_a_head_that_moves_to_a_version_under_removal_keeps_it(
    store: AdapterStore,
    line: list[AdapterVersion],
    objects: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delete = LocalObjectStore.delete_if_older

    def delete_and_roll_back(self: LocalObjectStore, key: str, before: datetime) -> bool:
        done = delete(self, key, before)
        if f"versions/{line[1].version}" in key:
            HeadObject(self, "collections/default/HEAD.json").move(line[1].version)
        return done

    monkeypatch.setattr(LocalObjectStore, "delete_if_older", delete_and_roll_back)
    found = CollectionGarbage(objects, store, keep=1, named=(), before=later())
    with store.lease(timeout_seconds=5) as lease:
        found.sweep(lease)
    assert store.current() == line[1]
    whole(store, line[1])


@only_local
def test_a_rollback_to_a_version_that_just_went_is_refused(
    store: AdapterStore,
    line: list[AdapterVersion],
    objects: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move = HeadObject.move

    def move_after_a_sweep(self: HeadObject, version: str) -> object:
        for part in set(line[0].parts.values()):
            objects.delete(f"collections/default/parts/{part}.safetensors")
        return move(self, version)

    monkeypatch.setattr(HeadObject, "move", move_after_a_sweep)
    with pytest.raises(ConflictError, match="a clean-up removed"):
        store.rollback(line[0].version)
    head = store.head()
    assert head is not None
    assert head.version == line[3].version


def test_a_lost_lease_ends_the_sweep(
    store: AdapterStore, line: list[AdapterVersion], objects: ObjectStore
) -> None:
    lease = Lease(1)
    lease.lost.set()
    found = CollectionGarbage(objects, store, keep=1, named=(), before=later())
    assert found.may_exist()
    assert found.sweep(lease) == []
    whole(store, *line)


@only_local
@pytest.mark.parametrize("kill", [f"delete_if_older:{n}:{m}" for n in (1, 2, 4) for m in
                                  ("before", "after")])  # fmt: skip
def test_a_sweep_killed_anywhere_harms_nothing_and_is_finished_by_the_next(
    store: AdapterStore, line: list[AdapterVersion], start: Callable[..., Worker], kill: str
) -> None:
    store.write_part(b"orphan")
    before = later().isoformat()
    assert start("sweep", 2, before, kill=kill).wait() == -9
    assert store.current() == line[3]
    whole(store, line[2], line[3])
    assert start("sweep", 2, before).wait() == 0
    assert set(store.version_names()) == {line[2].version, line[3].version}
    whole(store, line[2], line[3])
    needed = store.references(store.version_names())
    stored = set(store._objects.list("collections/default/"))
    assert stored - needed == {"collections/default/HEAD.json"}


@only_local
def test_learners_beside_sweeps_lose_nothing(
    store: AdapterStore, start: Callable[..., Worker]
) -> None:
    learners = [start("learn_all", name, 4) for name in "ab"]
    before = later().isoformat()
    sweepers = [start("sweep", 1, before) for _ in range(4)]
    assert [worker.wait() for worker in (*learners, *sweepers)] == [0] * 6
    current = store.current()
    assert current is not None
    assert len(current.concepts) == 8
    whole(store, current)


def test_pictures_that_no_row_names_go(objects: ObjectStore, rendered: Rendered) -> None:
    archive = ImageArchive(objects)
    published, staged = rendered(archive, "a"), rendered(archive, "b")
    archive.publish_day(NIGHT, [published], ["a"])
    archive.stage(NIGHT, "s", [staged])
    better = rendered(archive, "a", picture=b"\x89PNG better")
    archive.publish_day(NIGHT, [better], ["a"])
    orphan, _ = archive.put_image(b"\x89PNG nobody names me")
    assert find_images(objects, archive, datetime.now(UTC) - timedelta(hours=1)) == []
    found = find_images(objects, archive, later())
    # The state that named the first picture was replaced before the grace began.
    assert {item.key for item in found} == {orphan, published.path}
    assert remove(objects, found, later()) == found
    assert archive.verify_day(NIGHT) == []
    assert archive.read_image(staged.path)
    assert find_images(objects, archive, later()) == []


@only_local
def test_a_picture_of_a_recent_state_stays(objects: ObjectStore, rendered: Rendered) -> None:
    import os
    import time

    archive = ImageArchive(objects)
    old = rendered(archive, "a")
    assert isinstance(objects, LocalObjectStore)
    os.utime(objects.root / old.path, (time.time() - 7200,) * 2)
    archive.publish_day(NIGHT, [old], ["a"])
    archive.publish_day(NIGHT, [rendered(archive, "a", picture=b"\x89PNG new")], ["a"])
    assert find_images(objects, archive, datetime.now(UTC) - timedelta(hours=1)) == []
    assert [item.key for item in find_images(objects, archive, later())] == [old.path]


def test_a_manifest_that_cannot_be_read_keeps_every_picture(
    objects: ObjectStore, rendered: Rendered
) -> None:
    archive = ImageArchive(objects)
    archive.publish_day(NIGHT, [rendered(archive, "a")], ["a"])
    objects.put("manifest/dt=2026-03-01/part-0.parquet", b"rotten")
    with pytest.raises(IntegrityError):
        find_images(objects, archive, later())


def test_staged_rows_go_once_they_are_published(objects: ObjectStore, rendered: Rendered) -> None:
    archive = ImageArchive(objects)
    a, b = rendered(archive, "a"), rendered(archive, "b")
    archive.stage(NIGHT, "done", [a])
    archive.stage(NIGHT, "waiting", [b])
    archive.publish_day(NIGHT, [a], ["a"])
    assert find_staged_rows(objects, archive, datetime.now(UTC) - timedelta(hours=1)) == []
    (item,) = find_staged_rows(objects, archive, later())
    assert item.key.startswith("_staging/dt=2026-03-01/done-")


@only_local
def test_backdrops_of_a_used_base_keep_their_newest(objects: ObjectStore) -> None:
    import os
    import time

    assert isinstance(objects, LocalObjectStore)
    for age, key in enumerate(("base/aaaa/backdrops-2", "base/aaaa/backdrops-1", "base/bbbb/"
                               "backdrops-3", "base/aaaa/other")):  # fmt: skip
        objects.put(key, b"x")
        os.utime(objects.root / key, (time.time() - 60 * age,) * 2)
    found = find_backdrops(objects, {"aaaa"}, later())
    assert {item.key for item in found} == {"base/aaaa/backdrops-1", "base/bbbb/backdrops-3"}
    assert find_backdrops(objects, {"aaaa"}, later(-1)) == []
