"""A disk that fills up: on a small real file system, and by a limit on the size of a file."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from catalog_pipeline.errors import StoreError
from catalog_pipeline.records import Concept
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.index import IndexStore
from catalog_pipeline.stores.local import LocalObjectStore
from tests.builders import NIGHT, make_index_row
from tests.stores.store_processes import learn, picture

REPOSITORY = Path(__file__).resolve().parents[2]
FULL = "check the free space"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        reason = mounted.stderr.decode(errors="replace").strip()
        pytest.skip(f"a small tmpfs cannot be mounted here ({reason}); RLIMIT_FSIZE is tried")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_the_rerun_goes_on(small_disk: Path) -> None:
    objects = LocalObjectStore(small_disk / "home")
    archive, index = ImageArchive(objects), IndexStore(objects)
    store = AdapterStore(objects, "default")
    learn(objects, "A")
    index.update(lambda rows: [*rows, make_index_row("A")])
    archive.publish_day(NIGHT, [picture(archive, "a")], ["a"])
    before = (store.current(), index.read(), archive.read_day(NIGHT))
    filler = small_disk / "somebody_elses.bin"
    _fill(filler)
    _every_write_is_refused(objects)
    assert (store.current(), index.read(), archive.read_day(NIGHT)) == before
    assert archive.verify_day(NIGHT) == []
    assert objects.temporaries() == []
    filler.unlink()
    learn(objects, "B")
    assert [c.sku for c in _concepts(store)] == ["A", "B"]
    archive.publish_day(NIGHT, [picture(archive, "b")], ["a", "b"])
    assert [row.image_id for row in archive.read_day(NIGHT)] == ["a", "b"]
    assert archive.verify_day(NIGHT) == []


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _every_write_is_refused(objects: LocalObjectStore) -> None:
    archive = ImageArchive(objects)
    with pytest.raises(StoreError, match=FULL):
        learn(objects, "B")
    with pytest.raises(StoreError, match=FULL):
        IndexStore(objects).update(lambda rows: [*rows, make_index_row("B")])
    with pytest.raises(StoreError, match=FULL):
        archive.put_image(b"\x89PNG" + bytes(8192))
    (row,) = archive.read_day(NIGHT)
    with pytest.raises(StoreError, match=FULL):
        archive.publish_day(NIGHT, [row], [])  # would supersede it


def _concepts(store: AdapterStore) -> list[Concept]:
    current = store.current()
    assert current is not None
    return list(current.concepts)


def write_under_a_limit(root: str, limit_bytes: int) -> None:
    """Run in a child: files end at ``limit_bytes``, as under a quota."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    objects = LocalObjectStore(Path(root))
    archive = ImageArchive(objects)
    for name, put in {
        "picture": lambda: archive.put_image(b"\x89PNG" + os.urandom(2 * limit_bytes)),
        "swap": lambda: objects.compare_and_swap(
            "blob", bytes(2 * limit_bytes), objects.read("blob").version
        ),
        "put": lambda: objects.put("blob", bytes(2 * limit_bytes)),
    }.items():
        with pytest.raises(StoreError, match="File too large"):
            put()
        print(name, "was refused")


def test_a_file_that_may_not_grow_leaves_the_old_object(tmp_path: Path) -> None:
    objects = LocalObjectStore(tmp_path / "home")
    objects.put("blob", b"old")
    code = (
        "from tests.faults.test_full_disk import write_under_a_limit as write; "
        f"write({str(objects.root)!r}, 4096)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert child.returncode == 0, child.stderr.decode()
    assert child.stdout.decode().count("was refused") == 3
    assert objects.read("blob").data == b"old"
    assert objects.list("") == ["blob"]
    assert objects.temporaries() == []
    assert ImageArchive(objects).days() == list[date]()
