"""What only a folder can get wrong: rename, links, locks, a full or read-only disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.errors import (
    ConflictError,
    IntegrityError,
    ObjectNotFoundError,
    StorageFullError,
    StoreError,
)
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import StoredObject
from tests.stores.store_processes import Location, Worker

OTHER_DISK = "/dev/shm"


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
    assert all(info.key.startswith(".tmp/") for info in left)
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


def test_a_folder_on_another_file_system_is_written_too(
    store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: dict[str, Callable[..., None]] = {"replace": os.replace, "link": os.link}

    def between_mounts(name: str, source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        moves[name](source, target)

    for name in moves:
        monkeypatch.setattr(os, name, partial(between_mounts, name))
    assert store.put_if_absent("manifest/k", b"1")
    assert not store.put_if_absent("manifest/k", b"2")
    store.compare_and_swap("manifest/k", b"3", sha256_hex(b"1"))
    store.put("images/k", b"4")
    assert (store.read("manifest/k").data, store.read("images/k").data) == (b"3", b"4")
    assert store.temporaries() == []
    assert sorted(path.name for path in (store.root / "manifest").iterdir()) == ["k"]


def test_a_folder_that_is_a_link_to_another_disk_is_written_too(store: LocalObjectStore) -> None:
    store.root.mkdir()
    with tempfile.TemporaryDirectory(dir=OTHER_DISK) as elsewhere:
        if os.stat(elsewhere).st_dev == store.root.stat().st_dev:
            pytest.skip(f"{OTHER_DISK} is no file system of its own here")
        (store.root / "manifest").symlink_to(elsewhere)
        assert store.put_if_absent("manifest/a/k", b"1")
        store.compare_and_swap("manifest/a/k", b"2", sha256_hex(b"1"))
        assert store.list("manifest/") == ["manifest/a/k"]
        assert [path.name for path in Path(elsewhere, "a").iterdir()] == ["k"]


def test_a_night_belongs_to_the_group_of_its_folder(store: LocalObjectStore) -> None:
    folder = store.root / "manifest"
    folder.mkdir(parents=True)
    try:
        os.chown(folder, -1, 4711)
    except OSError:
        pytest.skip("this user may not give a folder to any group")
    folder.chmod(0o2770)
    store.put("manifest/dt=1/k", b"1")
    store.compare_and_swap("manifest/dt=1/k", b"2", sha256_hex(b"1"))
    assert store.put_if_absent("manifest/dt=2/k", b"1")
    assert {path.stat().st_gid for path in folder.rglob("*")} == {4711}


def test_temporary_files_of_dead_writers_are_found_by_age(store: LocalObjectStore) -> None:
    """Those of earlier releases lie beside their targets."""
    store.put("manifest/k", b"1")
    left = [store.root / name for name in (".tmp/.tmp-0", "manifest/.tmp-1", ".tmp/.tmp-2")]
    for path in left:
        path.write_bytes(b"half")
    for path in left[:2]:
        os.utime(path, (time.time() - 7200,) * 2)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    old = [".tmp/.tmp-0", "manifest/.tmp-1"]
    assert [info.key for info in store.temporaries(hour_ago)] == old
    assert [info.key for info in store.remove_temporaries(hour_ago)] == old
    assert [info.key for info in store.temporaries()] == [".tmp/.tmp-2"]


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


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["fsync", "link", "replace"])
def test_a_full_disk_is_reported_and_the_old_object_stays(
    store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch, code: int, step: str
) -> None:
    version = store.put("k", b"old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    writes: dict[str, list[Callable[[], object]]] = {
        "link": [lambda: store.put_if_absent("fresh/k", b"new")],
        "replace": [
            lambda: store.put("k", b"new"),
            lambda: store.compare_and_swap("k", b"new", version),
        ],
    }
    writes["fsync"] = [*writes["link"], *writes["replace"]]
    message = f"{os.strerror(code)}; check the free space and the quota"
    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        for write in writes[step]:
            with pytest.raises(StorageFullError, match=message):
                write()
    assert store.read("k").data == b"old"
    assert store.list("") == ["k"]
    assert store.temporaries() == []


def test_a_file_that_may_grow_no_further_is_reported(store: LocalObjectStore) -> None:
    """The kernel itself refuses: a process with a bound on the size of its files."""
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from catalog_pipeline.errors import StorageFullError\n"
        "from catalog_pipeline.stores.local import LocalObjectStore\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "store = LocalObjectStore(Path(sys.argv[1]))\n"
        "store.put('k', b'old')\n"
        "try:\n    store.put('k', bytes(100_000))\n"
        "except StorageFullError as error:\n    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(store.root)], capture_output=True, text=True
    )
    assert "no room to write" in result.stdout, result.stderr
    assert store.read("k").data == b"old"
    assert store.temporaries() == []


def test_bytes_that_do_not_match_the_digest_in_their_key_are_refused(
    store: LocalObjectStore,
) -> None:
    digest = sha256_hex(b"good")
    for key in (
        f"images/sha256={digest}.png",
        f"collections/マグ/parts/{digest}.safetensors",
        f"collections/a/pages/{digest}.json",
        f"_versions/manifest/dt=2026-03-01/{digest}.parquet",
    ):
        store.put(key, b"good")
        assert store.read(key).data == b"good"
        store.put(key, b"rotten")
        with pytest.raises(IntegrityError, match=f"expected {digest[:12]}"):
            store.read(key)
    for key in (f"reports/{digest}.json", f"_staging/dt=2026-03-01/{digest}.parquet"):
        store.put(key, b"named by something else")
        assert store.read(key).data == b"named by something else"


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
