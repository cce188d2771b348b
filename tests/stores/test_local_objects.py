"""What only a folder can get wrong: rename, links, locks, a full or read-only disk."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.errors import ConflictError, ObjectNotFoundError, StoreError
from catalog_pipeline.stores.contract import StoredObject
from catalog_pipeline.stores.local import LocalObjectStore
from tests.stores.store_processes import Location, Worker


@pytest.fixture
def store(tmp_path: Path) -> LocalObjectStore:
    return LocalObjectStore(tmp_path / "home")


@pytest.fixture
def start_local(local: Location) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(task: str, *arguments: Any, kill: str) -> Worker:
        workers.append(Worker(local, task, arguments, kill))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()


@pytest.mark.parametrize("kill", ["fsync:1:before", "replace:1:before", "replace:1:after"])
def test_a_writer_killed_on_the_way_leaves_a_whole_object(
    store: LocalObjectStore, start_local: Callable[..., Worker], kill: str
) -> None:
    store.put("blob", b"old")
    assert start_local("rewrite", 100_000, 5.0, kill=kill).wait() == -9
    assert store.read("blob").data in (b"old", b"a" * 100_000)
    assert store.list("") == ["blob"]
    left = store.temporaries()
    assert len(left) == ("before" in kill)
    assert store.put("blob", b"new")
    assert store.read("blob").data == b"new"


def test_a_creator_killed_before_the_link_leaves_nothing_visible(
    store: LocalObjectStore, start_local: Callable[..., Worker]
) -> None:
    assert start_local("count_up", 1, kill="link:1:before").wait() == -9
    assert not store.exists("counter")
    assert store.list("") == []
    assert store.put_if_absent("counter", b"1")


def test_creation_is_exclusive_without_hard_links(
    store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert store.put_if_absent("k", b"first")
    assert not store.put_if_absent("k", b"second")
    assert store.read("k").data == b"first"
    assert store.temporaries() == []


def test_a_writer_that_pauses_between_its_look_and_its_write_is_not_overtaken(
    store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.put("k", b"0")
    look = LocalObjectStore.read

    def slow_look(self: LocalObjectStore, key: str) -> StoredObject:
        found = look(self, key)
        time.sleep(0.05)
        return found

    monkeypatch.setattr(LocalObjectStore, "read", slow_look)

    def swap(number: int) -> bool:
        try:
            store.compare_and_swap("k", b"%d" % number, first)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(swap, range(1, 5))) == 1


def test_a_full_disk_is_reported_and_the_old_object_stays(
    store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("k", b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device; check the free space"):
            store.put("k", b"new")
    assert store.read("k").data == b"old"
    assert store.temporaries() == []


def test_a_home_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("in the way")
    store = LocalObjectStore(tmp_path / "home")
    with pytest.raises(StoreError, match="cannot write"):
        store.put("a/b", b"x")
    with pytest.raises(ObjectNotFoundError):
        store.read("a/b")
    assert not store.exists("a/b")
    assert store.list("") == []


def test_hidden_files_and_link_loops_are_not_listed(store: LocalObjectStore) -> None:
    store.put("a/b", b"x")
    (store.root / "a" / "loop").symlink_to(store.root)
    (store.root / "a" / ".DS_Store").write_bytes(b"")
    assert store.list("") == ["a/b"]
    assert store.lock_path("x").parent == store.root / ".locks"


def test_a_folder_is_no_object(store: LocalObjectStore) -> None:
    store.put("a/b", b"x")
    assert not store.exists("a")
    with pytest.raises(ObjectNotFoundError):
        store.read("a")
    with pytest.raises(StoreError):
        store.put("a/b/c", b"x")
