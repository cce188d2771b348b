"""The contract of an object store, over a folder and over an S3 server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.errors import ConflictError, ObjectNotFoundError, StoreError
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.keys import check_key
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.s3 import S3ObjectStore
from catalog_pipeline.workflows.home import open_home
from tests.stores.store_processes import Location, Worker

KEYS = [f"images/sha256={number:04d}.png" for number in range(60)]


def test_what_is_put_is_read(objects: ObjectStore) -> None:
    version = objects.put("a/b.bin", b"one")
    stored = objects.read("a/b.bin")
    assert (stored.data, stored.version) == (b"one", version)
    assert objects.put("a/b.bin", b"two") != version
    assert objects.read("a/b.bin").data == b"two"
    assert objects.exists("a/b.bin")


def test_an_empty_object_is_an_object(objects: ObjectStore) -> None:
    assert objects.put_if_absent("empty", b"")
    assert objects.read("empty").data == b""


def test_an_absent_key_is_named(objects: ObjectStore) -> None:
    assert not objects.exists("a/b")
    with pytest.raises(ObjectNotFoundError, match="'a/b'"):
        objects.read("a/b")
    objects.delete("a/b")


def test_many_are_removed_at_once(objects: ObjectStore) -> None:
    keys = [*KEYS, "コレクション/x & <y>.json"]
    objects.each_of(lambda key: objects.put(key, b"x"), [*keys, "images/kept.png"])
    objects.delete_many([])
    objects.delete_many([*keys[1:], "a/b", "images/kept.png/c", keys[-1]])
    assert objects.list("") == ["images/kept.png", keys[0]]
    objects.delete_many(keys)
    assert objects.list("") == ["images/kept.png"]
    with pytest.raises(StoreError, match="object key"):
        objects.delete_many(["../x"])


def test_only_the_first_creation_counts(objects: ObjectStore) -> None:
    assert objects.put_if_absent("k", b"first")
    assert not objects.put_if_absent("k", b"second")
    assert objects.read("k").data == b"first"
    objects.delete("k")
    assert objects.put_if_absent("k", b"third")


def test_compare_and_swap_takes_the_version_it_was_given(objects: ObjectStore) -> None:
    first = objects.compare_and_swap("k", b"1", None)
    with pytest.raises(ConflictError, match="'k'"):
        objects.compare_and_swap("k", b"x", None)
    second = objects.compare_and_swap("k", b"2", first)
    with pytest.raises(ConflictError, match="read it again"):
        objects.compare_and_swap("k", b"x", first)
    objects.delete("k")
    with pytest.raises(ConflictError):
        objects.compare_and_swap("k", b"x", second)
    assert not objects.exists("k")


def test_listing_is_sorted_and_by_the_beginning_of_a_key(objects: ObjectStore) -> None:
    for key in ("b/2", "b/10", "b/deep/er", "bc", "コレクション/x y.json"):
        objects.put(key, b"x")
    assert objects.list("b/") == ["b/10", "b/2", "b/deep/er"]
    assert objects.list("b/1") == ["b/10"]
    assert objects.list("b") == ["b/10", "b/2", "b/deep/er", "bc"]
    assert objects.list("nothing/") == []
    assert objects.folders("b/") == ["deep"]
    assert objects.folders("") == ["b", "コレクション"]
    assert objects.folders("nothing/") == []
    assert objects.list("") == sorted(["b/10", "b/2", "b/deep/er", "bc", "コレクション/x y.json"])


def test_sizes_and_times_are_known_without_reading(objects: ObjectStore) -> None:
    started = datetime.now(UTC) - timedelta(seconds=2)
    objects.put("b/2", b"xyz")
    objects.put("b/1", b"")
    infos = objects.scan("b/")
    assert [(info.key, info.size_bytes) for info in infos] == [("b/1", 0), ("b/2", 3)]
    for info in infos:
        assert started <= info.modified_utc <= datetime.now(UTC) + timedelta(seconds=2)
        # A listing and a look may round the time differently.
        assert abs(objects.info(info.key).modified_utc - info.modified_utc) < timedelta(seconds=1)
    with pytest.raises(ObjectNotFoundError, match="'b/3'"):
        objects.info("b/3")
    assert objects.scan("nothing/") == []


def test_only_what_is_old_is_removed(objects: ObjectStore) -> None:
    objects.put("k", b"x")
    now = datetime.now(UTC)
    assert not objects.delete_if_older("k", now - timedelta(hours=1))
    assert objects.exists("k")
    assert objects.delete_if_older("k", now + timedelta(hours=1))
    assert not objects.exists("k")
    assert not objects.delete_if_older("k", now + timedelta(hours=1))


def test_finished_writes_leave_nothing_but_their_objects(objects: ObjectStore) -> None:
    objects.put("a/k", b"1")
    objects.put_content("a/k", b"1")
    later = datetime.now(UTC) + timedelta(hours=1)
    assert [*objects.temporaries(), *objects.remove_temporaries(later)] == []
    assert objects.list("") == ["a/k"]


@pytest.mark.parametrize(
    "key",
    [
        *("", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a/.b"),
        *("a\nb", "a\x00", "a\\b", "x" * 256, "y/" * 600 + "z"),
    ],
)
def test_a_key_that_some_store_cannot_hold_is_refused(objects: ObjectStore, key: str) -> None:
    for call in (objects.read, objects.exists, objects.delete, objects.uri):
        with pytest.raises(StoreError, match="object key"):
            call(key)
    for write in (objects.put, objects.put_if_absent):
        with pytest.raises(StoreError, match="object key"):
            write(key, b"")


def test_one_of_many_creators_wins(objects: ObjectStore) -> None:
    blobs = [bytes([number]) * 50_000 for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        won = list(pool.map(lambda blob: objects.put_if_absent("k", blob), blobs))
    assert won.count(True) == 1
    assert objects.read("k").data == blobs[won.index(True)]


def test_no_update_of_three_processes_is_lost(
    objects: ObjectStore, start: Callable[..., Worker]
) -> None:
    workers = [start("count_up", 10) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0] * 3
    assert objects.read("counter").data == b"30"


def test_updates_survive_killed_writers(objects: ObjectStore, start: Callable[..., Worker]) -> None:
    killed = [
        start("count_up", 50, kill=kill)
        for kill in ("compare_and_swap:5:before", "compare_and_swap:7:after")
    ]
    steady = start("count_up", 8)
    assert [worker.wait() for worker in killed] == [-9, -9]
    assert steady.wait() == 0
    written = int(objects.read("counter").data)
    assert 8 <= written <= 8 + 4 + 7
    assert start("count_up", 1).wait() == 0
    assert int(objects.read("counter").data) == written + 1


def test_a_reader_never_sees_part_of_an_object(
    objects: ObjectStore, start: Callable[..., Worker]
) -> None:
    objects.put("blob", b"a" * 300_000)
    worker = start("rewrite", 300_000, 0.3)
    seen = set()
    while worker.process.is_alive():
        data = objects.read("blob").data
        assert len(data) == 300_000
        assert len(set(data)) == 1
        seen.add(data[0])
    assert worker.wait() == 0
    assert len(seen) > 1


def test_what_is_missing_is_told(objects: ObjectStore) -> None:
    for key in KEYS[:3]:
        objects.put(key, b"1")
    assert objects.missing_keys([*KEYS[:5], KEYS[4]]) == KEYS[3:5]
    assert objects.missing_keys([]) == []


def test_results_keep_the_order_and_errors_come_through(objects: ObjectStore) -> None:
    for key in KEYS[:9]:
        objects.put(key, key.encode())
    assert objects.each_of(lambda key: objects.read(key).data.decode(), KEYS[:9]) == KEYS[:9]
    with pytest.raises(ObjectNotFoundError, match="0009"):
        objects.each_of(objects.read, KEYS[:20])


def test_the_settings_choose_the_store(settings: Settings, s3_settings: S3Settings) -> None:
    local = open_home(settings).objects
    assert isinstance(local, LocalObjectStore)
    assert local.uri("manifest/x") == str(settings.home / "manifest" / "x")
    bucket = settings.model_copy(
        update={"archive": settings.archive.model_copy(update={"s3": s3_settings})}
    )
    remote = open_home(bucket).objects
    assert isinstance(remote, S3ObjectStore)
    assert remote.uri("x").startswith(f"s3://{s3_settings.bucket}/{s3_settings.prefix}/")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=24))
def test_every_accepted_key_stays_below_the_root(key: str) -> None:
    try:
        check_key(key)
    except StoreError:
        return
    assert not key.startswith("/")
    assert ".." not in key.split("/")
    assert "\n" not in key


def test_a_store_opened_twice_is_one_store(location: Location) -> None:
    one, other = location.open(), location.open()
    version = one.put("k", b"1")
    other.compare_and_swap("k", b"2", version)
    assert one.read("k").data == b"2"
