"""The archive: pictures, staging, and one manifest a night that changes in one step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError, StoreError
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.keys import MANIFEST_PREFIX, days_of
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.manifest import NOT_PLANNED
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.schemas import ManifestStamps, decode_manifest, encode_manifest
from tests.builders import NIGHT
from tests.stores.store_processes import Worker

Rendered = Callable[..., ArchiveRow]
GOLDEN = Path(__file__).parent / "golden" / "schema_1"
HEAD_KEY = "manifest/dt=2026-03-01/part-0.parquet"


@pytest.fixture
def archive(objects: ObjectStore) -> ImageArchive:
    return ImageArchive(objects)


def test_a_picture_is_stored_once_under_its_hash(
    archive: ImageArchive, objects: ObjectStore
) -> None:
    key, digest = archive.put_image(b"\x89PNG picture")
    assert key == f"images/sha256={digest}.png"
    assert archive.put_image(b"\x89PNG picture") == (key, digest)
    assert archive.read_image(key) == b"\x89PNG picture"
    assert archive.image_keys() == [key]
    objects.put(key, b"rotten")
    with pytest.raises(IntegrityError, match="is corrupted"):
        archive.read_image(key)
    archive.put_image(b"\x89PNG picture")
    assert archive.read_image(key) == b"\x89PNG picture"


def test_a_night_is_published_whole(archive: ImageArchive, rendered: Rendered) -> None:
    rows = [rendered(archive, "b"), rendered(archive, "a")]
    report = archive.publish_day(NIGHT, rows, ["a", "b"])
    assert (report.rows, report.added, report.superseded, report.changed) == (2, 2, 0, True)
    assert report.path.endswith(HEAD_KEY)
    assert archive.read_day(NIGHT) == rows[::-1]
    assert archive.days() == [NIGHT]
    assert archive.verify_day(NIGHT) == []
    assert archive.read_day(NIGHT + timedelta(days=1)) == []


def test_publishing_again_writes_nothing(
    archive: ImageArchive, objects: ObjectStore, rendered: Rendered
) -> None:
    row = rendered(archive, "a", scores={"fidelity": math.nan})
    archive.publish_day(NIGHT, [row], ["a"])
    before = {key: objects.read(key).version for key in objects.list("")}
    rerun = replace(row, created_utc=row.created_utc + timedelta(hours=1), scores=dict(row.scores))
    for rows in ([], [row], [rerun]):
        report = archive.publish_day(NIGHT, rows, ["a"])
        assert (report.rows, report.added, report.superseded, report.changed) == (1, 0, 0, False)
    assert {key: objects.read(key).version for key in objects.list("")} == before
    empty = archive.publish_day(NIGHT + timedelta(days=1), [], [])
    assert not empty.changed
    assert archive.days() == [NIGHT]


def test_a_changed_plan_adds_and_supersedes_and_can_come_back(
    archive: ImageArchive, rendered: Rendered
) -> None:
    archive.publish_day(NIGHT, [rendered(archive, "a"), rendered(archive, "b")], ["a", "b"])
    report = archive.publish_day(NIGHT, [rendered(archive, "c")], ["b", "c"])
    assert (report.rows, report.added, report.superseded, report.changed) == (3, 1, 1, True)
    assert {row.image_id: row.superseded for row in archive.read_day(NIGHT)} == {
        "a": True,
        "b": False,
        "c": False,
    }
    assert archive.publish_day(NIGHT, [], ["a", "b", "c"]).superseded == 0
    assert not any(row.superseded for row in archive.read_day(NIGHT))


def test_a_picture_rendered_anew_replaces_its_row(
    archive: ImageArchive, rendered: Rendered
) -> None:
    archive.publish_day(NIGHT, [rendered(archive, "a")], ["a"])
    better = rendered(archive, "a", picture=b"\x89PNG better")
    report = archive.publish_day(NIGHT, [better], ["a"])
    assert (report.rows, report.added, report.changed) == (1, 0, True)
    assert archive.read_day(NIGHT) == [better]


def test_every_state_of_a_night_can_be_read_again(
    archive: ImageArchive, rendered: Rendered, objects: ObjectStore
) -> None:
    first, second = rendered(archive, "a"), rendered(archive, "b")
    archive.publish_day(NIGHT, [first], ["a"])
    archive.publish_day(NIGHT, [second], ["a", "b"])
    archive.publish_day(NIGHT, [], ["b"])
    versions = archive.versions(NIGHT)
    assert len(versions) == 3
    assert archive.read_version(NIGHT, versions[0]) == [first]
    assert archive.read_version(NIGHT, versions[1]) == [first, second]
    assert archive.read_version(NIGHT, versions[2]) == archive.read_day(NIGHT)
    assert archive.versions(NIGHT + timedelta(days=1)) == []
    objects.put(f"_versions/manifest/dt=2026-03-01/{versions[0]}.parquet", b"rotten")
    with pytest.raises(IntegrityError):
        archive.read_version(NIGHT, versions[0])
    with pytest.raises(ObjectNotFoundError):
        archive.read_version(NIGHT, "0" * 64)


def test_the_same_night_gives_the_same_bytes(archive: ImageArchive, rendered: Rendered) -> None:
    rows = [rendered(archive, name) for name in "abc"]
    shuffled = [replace(r, scores=dict(reversed(list(r.scores.items())))) for r in rows[::-1]]
    stamps = ManifestStamps("before", datetime(2026, 3, 1, tzinfo=UTC))
    first = encode_manifest(rows, stamps)
    assert encode_manifest(shuffled, stamps) == first
    assert decode_manifest(first, "x") == (rows, stamps)


def test_a_copied_home_keeps_the_times_of_its_states(
    archive: ImageArchive, objects: ObjectStore, rendered: Rendered, tmp_path: Path
) -> None:
    archive.publish_day(NIGHT, [rendered(archive, "a")], "a")
    archive.publish_day(NIGHT, [rendered(archive, "b")], "ab")
    states = archive.history(NIGHT)
    copy = LocalObjectStore(tmp_path / "copy")
    for key in objects.list(""):
        copy.put(key, objects.read(key).data)
    assert ImageArchive(copy).history(NIGHT) == states
    between = states[1].published_utc - timedelta(microseconds=1)
    assert [row.image_id for row in ImageArchive(copy).read_as_of(NIGHT, between)] == ["a"]


def test_a_clock_that_was_set_back_reorders_no_state(
    archive: ImageArchive, rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.publish_day(NIGHT, [rendered(archive, "a")], "a")

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime(2001, 1, 1, tzinfo=tz)

    monkeypatch.setattr("catalog_pipeline.stores.manifest.datetime", Earlier)
    archive.publish_day(NIGHT, [rendered(archive, "b")], "ab")
    first, second = archive.history(NIGHT)
    assert first.published_utc < second.published_utc


def test_a_superseded_row_says_why(archive: ImageArchive, rendered: Rendered) -> None:
    archive.publish_day(NIGHT, [rendered(archive, name) for name in "abc"], "abc")
    archive.publish_day(NIGHT, [], "a", {"b": "held back: not found: MUG"})
    why = {row.image_id: row.reason for row in archive.read_day(NIGHT)}
    assert why == {"a": "", "b": "held back: not found: MUG", "c": NOT_PLANNED}
    archive.publish_day(NIGHT, [], "abc")
    assert [row.reason for row in archive.read_day(NIGHT)] == ["", "", ""]


def test_rows_that_cannot_be_right_are_refused(
    archive: ImageArchive, rendered: Rendered, make_row: Rendered
) -> None:
    row = rendered(archive, "a")
    for rows, message in (
        ([replace(row, day=NIGHT + timedelta(days=1))], "expected rows of 2026-03-01"),
        ([row, replace(row, prompt="other")], "two different rows for the picture a"),
        ([make_row("x", path="images/sha256=0.png", sha256="0")], "expected .* to be stored"),
        ([replace(row, path="elsewhere.png")], "names the picture 'elsewhere.png'"),
        ([replace(row, seed=2**64)], "does not fit the schema of image_manifest"),
    ):
        with pytest.raises(StoreError, match=message):
            archive.publish_day(NIGHT, rows, ["a"])
    assert archive.days() == []


def test_staged_rows_wait_for_their_publication(archive: ImageArchive, rendered: Rendered) -> None:
    a, b, c = (rendered(archive, name) for name in "abc")
    archive.stage(NIGHT, "shard-1", [b])
    archive.stage(NIGHT, "shard-1", [b, a])
    archive.stage(NIGHT, "shard-2", [c])
    newer = replace(c, created_utc=c.created_utc + timedelta(seconds=1), prompt="newer")
    archive.stage(NIGHT, "shard-3", [newer])
    assert archive.staged(NIGHT) == [a, b, newer]
    assert archive.staged_days() == [NIGHT]
    archive.publish_day(NIGHT, [a, b], "abc")
    archive.clear_staging(NIGHT)
    assert archive.staged(NIGHT) == [newer]
    archive.publish_day(NIGHT, archive.staged(NIGHT), "abc")
    archive.clear_staging(NIGHT)
    assert archive.staged(NIGHT) == []
    assert archive.staged_days() == []
    with pytest.raises(StoreError, match=r"shard '../x'"):
        archive.stage(NIGHT, "../x", [a])


def test_a_staged_row_that_was_overtaken_does_not_come_back(
    archive: ImageArchive, rendered: Rendered, objects: ObjectStore
) -> None:
    lost = rendered(archive, "a")
    archive.stage(NIGHT, "first", [lost])
    objects.delete(lost.path)
    later = lost.created_utc + timedelta(minutes=1)
    again = rendered(archive, "a", picture=b"\x89PNG again", created_utc=later)
    archive.stage(NIGHT, "second", [again])
    archive.publish_day(NIGHT, archive.staged(NIGHT), ["a"])
    assert not archive.publish_day(NIGHT, [lost], ["a"]).changed
    archive.clear_staging(NIGHT)
    assert archive.staged(NIGHT) == []
    assert archive.read_day(NIGHT) == [again]


def test_only_what_was_read_and_settled_is_cleared(
    archive: ImageArchive, rendered: Rendered
) -> None:
    a, b, c, d = (rendered(archive, name) for name in "abcd")
    for shard, rows in {"whole": [a], "half": [b, c]}.items():
        archive.stage(NIGHT, shard, rows)
    staging = archive.read_staging(NIGHT)
    newer = replace(a, created_utc=a.created_utc + timedelta(seconds=1), prompt="newer")
    archive.stage(NIGHT, "whole", [newer])  # the very shard, staged anew by another run
    archive.stage(NIGHT, "young", [d])
    assert staging.rows == [a, b, c]
    archive.publish_day(NIGHT, [a, b], "abcd")
    archive.clear_published(staging, "ab")
    assert archive.read_staging(NIGHT).rows == [newer, b, c, d]
    assert staging.shards.keys() - archive.read_staging(NIGHT).shards.keys() == {
        key for key in staging.shards if "/whole-" in key
    }


@pytest.mark.parametrize(
    ("location", "kill"),
    [
        ("local", "delete_many:1:before"),  # published, nothing cleared
        ("local", "unlink:5:before"),  # 2 of 5 shards cleared, after 2 temporary files
        ("local", "delete_many:1:after"),
        ("s3", "delete_many:1:before"),
        ("s3", "delete_many:1:after"),
    ],
    indirect=["location"],
)
def test_a_clearing_killed_anywhere_is_finished_by_a_rerun(
    archive: ImageArchive, rendered: Rendered, start: Callable[..., Worker], kill: str
) -> None:
    rows = [rendered(archive, name) for name in "abcde"]
    for row in rows:
        archive.stage(NIGHT, row.image_id, [row])
    assert start("publish_staged", [*"abcde"], kill=kill).wait() == -9
    left = {"delete_many:1:before": 5, "unlink:5:before": 3, "delete_many:1:after": 0}
    assert len(archive.staged(NIGHT)) == left[kill]
    assert archive.read_day(NIGHT) == rows
    assert start("publish_staged", [*"abcde"]).wait() == 0
    assert archive.staged(NIGHT) == []
    assert archive.read_day(NIGHT) == rows
    assert len(archive.versions(NIGHT)) == 1


def test_a_column_is_read_alone(archive: ImageArchive, rendered: Rendered) -> None:
    rows = [rendered(archive, name) for name in "ab"]
    assert archive.values(NIGHT, "path") == archive.quarantine.values(NIGHT, "path") == set()
    archive.publish_day(NIGHT, rows, "ab")
    held = replace(rows[0], verdict="failed")
    archive.quarantine.settle_day(NIGHT, [held], "a")
    assert archive.values(NIGHT, "path") == {row.path for row in rows}
    assert archive.quarantine.values(NIGHT, "image_id") == {"a"}


def test_verification_names_every_problem(
    archive: ImageArchive, rendered: Rendered, objects: ObjectStore
) -> None:
    assert archive.verify_day(NIGHT) == ["2026-03-01 has no manifest; publish the night"]
    rows = [rendered(archive, name) for name in "abc"]
    archive.publish_day(NIGHT, rows, "abc")
    objects.delete(rows[0].path)
    objects.put(rows[1].path, b"rotten")
    missing, rotten = archive.verify_day(NIGHT)
    assert "row a names" in missing
    assert "which is not stored" in missing
    assert "is corrupted" in rotten
    objects.delete(f"_versions/manifest/dt=2026-03-01/{archive.versions(NIGHT)[0]}.parquet")
    assert "_versions" in archive.verify_day(NIGHT)[0]
    objects.put(HEAD_KEY, b"not parquet")
    assert "not a readable Parquet file" in archive.verify_day(NIGHT)[0]
    with pytest.raises(IntegrityError):
        archive.publish_day(NIGHT, rows, "abc")


def test_no_publication_of_rival_processes_is_lost(
    archive: ImageArchive, start: Callable[..., Worker]
) -> None:
    planned = [f"{name}-{number}" for name in "ab" for number in range(4)]
    workers = [start("publish_rows", name, 4, planned) for name in "ab"]
    killed = start("publish_rows", "d", 4, planned, kill="compare_and_swap:2:before")
    assert [worker.wait() for worker in workers] == [0] * 2
    assert killed.wait() == -9
    found = {row.image_id for row in archive.read_day(NIGHT)}
    assert set(planned) <= found <= {*planned, "d-0"}
    assert archive.verify_day(NIGHT) == []
    assert len(archive.versions(NIGHT)) == len(found)


@pytest.mark.parametrize(
    ("location", "kill"),
    [
        ("local", "put_if_absent:2:before"),  # one picture of two
        ("local", "put:1:before"),  # pictures, nothing staged
        ("local", "put:1:after"),  # staged, nothing published
        ("local", "put_if_absent:3:after"),  # the immutable copy, not the manifest
        ("local", "compare_and_swap:1:after"),  # published, staging not cleared
        ("s3", "put_if_absent:3:after"),
        ("s3", "compare_and_swap:1:after"),
    ],
    indirect=["location"],
)
def test_a_night_killed_anywhere_is_finished_by_a_rerun(
    archive: ImageArchive, start: Callable[..., Worker], kill: str
) -> None:
    assert start("render_and_publish", ["a", "b"], kill=kill).wait() == -9
    assert [row.image_id for row in archive.read_day(NIGHT)] in ([], ["a", "b"])
    assert start("render_and_publish", ["a", "b"]).wait() == 0
    assert [row.image_id for row in archive.read_day(NIGHT)] == ["a", "b"]
    assert archive.verify_day(NIGHT) == []
    assert archive.staged(NIGHT) == []
    assert len(archive.versions(NIGHT)) == 1


@pytest.mark.parametrize(
    "kill", ["put_if_absent:1:after", "compare_and_swap:1:before", "compare_and_swap:1:after"]
)
def test_an_upgrade_killed_anywhere_is_finished_by_a_rerun(
    archive: ImageArchive, objects: ObjectStore, start: Callable[..., Worker], kill: str
) -> None:
    for path in GOLDEN.rglob("*"):
        if path.is_file():
            objects.put(path.relative_to(GOLDEN).as_posix(), path.read_bytes())
    before, states = archive.read_day(NIGHT), archive.versions(NIGHT)
    assert start("upgrade", kill=kill).wait() == -9
    assert archive.read_day(NIGHT) == before
    assert start("upgrade").wait() == 0
    assert not archive.is_outdated(NIGHT)
    assert archive.read_day(NIGHT) == before
    assert archive.verify_day(NIGHT) == []
    assert archive.versions(NIGHT)[:-1] == states


@pytest.mark.parametrize("name", ["20260301", "2026-W09-7", "2026-3-1", "latest"])
def test_a_folder_beside_the_nights_that_no_night_wrote_is_named(name: str) -> None:
    assert days_of(["manifest/dt=2026-03-01/part-0.parquet"], MANIFEST_PREFIX) == [date(2026, 3, 1)]
    with pytest.raises(StoreError, match=f"a folder dt={name} lies beside the nights"):
        days_of([f"manifest/dt={name}/part-0.parquet"], MANIFEST_PREFIX)


def test_files_that_are_no_night_make_no_day(archive: ImageArchive, objects: ObjectStore) -> None:
    for name in ("_SUCCESS", "notes/read-me.json", "dt=2026-03-02/_SUCCESS"):
        objects.put(f"{MANIFEST_PREFIX.rpartition('/')[0]}/{name}", b"{}")
    assert archive.days() == []
