"""A backend is one file: what a folder and a bucket promise, a dictionary promises too."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path

import pytest

from catalog_pipeline.errors import ConflictError, ObjectNotFoundError
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.keys import check_digest, check_key, check_prefix, sha256_hex
from catalog_pipeline.stores.objects import ObjectInfo, ObjectStore, StoredObject
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.report_pages import write_page
from catalog_pipeline.workflows.upkeep.archive_summary import query_archive
from tests.builders import NIGHT, make_archive_row
from tests.stores import (
    test_adapter_store,
    test_archive,
    test_index_store,
    test_leases,
    test_objects,
)
from tests.stores.test_archive import archive  # noqa: F401


class MemoryObjectStore(ObjectStore):
    """Objects for the life of a process."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[StoredObject, datetime]] = {}
        self._writes = itertools.count(1)
        self._lock = threading.RLock()

    def read(self, key: str) -> StoredObject:
        stored, _ = self._found(key)
        check_digest(key, sha256_hex(stored.data), self.uri(key))
        return stored

    def put(self, key: str, data: bytes) -> str:
        with self._lock:
            version = f"write {next(self._writes)}"
            self._objects[check_key(key)] = StoredObject(data, version), datetime.now(UTC)
            return version

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._lock:
            created = check_key(key) not in self._objects
            if created:
                self.put(key, data)
            return created

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str:
        with self._lock:
            found = self._objects.get(check_key(key))
            if (found and found[0].version) != expected:
                raise ConflictError(f"{key!r} is not at {expected}; read it again and retry")
            return self.put(key, data)

    def info(self, key: str) -> ObjectInfo:
        stored, modified = self._found(key)
        return ObjectInfo(key, len(stored.data), modified)

    def scan(self, prefix: str) -> Sequence[ObjectInfo]:
        check_prefix(prefix)
        with self._lock:
            return [self.info(key) for key in sorted(self._objects) if key.startswith(prefix)]

    def delete(self, key: str) -> None:
        self._objects.pop(check_key(key), None)

    def uri(self, key: str) -> str:
        return f"memory:{check_key(key)}"

    def _found(self, key: str) -> tuple[StoredObject, datetime]:
        try:
            return self._objects[check_key(key)]
        except KeyError as error:
            raise ObjectNotFoundError(f"no object {key!r} in memory") from error


@dataclass(frozen=True)
class MemoryLocation:
    """A store that is one and the same however often it is opened."""

    objects: MemoryObjectStore = field(default_factory=MemoryObjectStore)

    def open(self) -> ObjectStore:
        return self.objects


@pytest.fixture
def location() -> MemoryLocation:
    """Also where a contract is of buckets alone: their leases are everybody's."""
    return MemoryLocation()


def contracts() -> Iterator[tuple[str, Callable[..., None]]]:
    """The tests of every store that need no other process, which could not look into this one."""
    for module in (
        test_objects,
        test_leases,
        test_adapter_store,
        test_index_store,
        test_archive,
    ):
        for name, found in vars(module).items():
            needs = set(signature(found).parameters) if name.startswith("test_") else set()
            if needs & {"objects", "store", "archive", "location"} and "start" not in needs:
                yield name, found


globals().update(contracts())


def test_workflows_ask_the_store_where_its_objects_are(tmp_path: Path) -> None:
    home = Home(Settings(config_dir=tmp_path, home=tmp_path / "home"))
    home.objects = MemoryObjectStore()
    assert home.objects.path("reports/a.html") is None
    key, digest = home.archive.put_image(b"\x89PNG")
    row = make_archive_row("a", path=key, sha256=digest)
    home.archive.publish_day(NIGHT, [row], ["a"])
    assert [night["rows"] for night in query_archive(home).per_day] == [1]
    page = write_page(home, "a.html", b"<p>")
    assert page.read_bytes() == home.objects.read("reports/a.html").data == b"<p>"
