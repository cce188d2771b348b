"""Any object store, read and never written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn, TypeVar

from catalog_pipeline.errors import AccessDeniedError
from catalog_pipeline.stores.leases import LeaseObject
from catalog_pipeline.stores.objects import ObjectInfo, ObjectStore, StoredObject

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ReadOnlyObjectStore(ObjectStore):
    """``backend``, of which every write and removal raises AccessDeniedError with ``reason``."""

    def __init__(self, backend: ObjectStore, reason: str) -> None:
        self._backend, self._reason = backend, reason

    def _refuse(self, key: str) -> NoReturn:
        raise AccessDeniedError(f"{key!r} is not written: {self._reason}")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Raises AccessDeniedError."""
        self._refuse(key)

    def put(self, key: str, data: bytes) -> str:
        """Raises AccessDeniedError."""
        self._refuse(key)

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str:
        """Raises AccessDeniedError."""
        self._refuse(key)

    def delete(self, key: str) -> None:
        """Raises AccessDeniedError."""
        self._refuse(key)

    def read(self, key: str) -> StoredObject:
        """See :class:`ObjectStore`."""
        return self._backend.read(key)

    def info(self, key: str) -> ObjectInfo:
        """See :class:`ObjectStore`."""
        return self._backend.info(key)

    def exists(self, key: str) -> bool:
        """See :class:`ObjectStore`."""
        return self._backend.exists(key)

    def missing_keys(self, keys: Iterable[str]) -> Sequence[str]:
        """See :class:`ObjectStore`."""
        return self._backend.missing_keys(keys)

    def scan(self, prefix: str) -> Sequence[ObjectInfo]:
        """See :class:`ObjectStore`."""
        return self._backend.scan(prefix)

    def list(self, prefix: str) -> list[str]:
        """See :class:`ObjectStore`."""
        return self._backend.list(prefix)

    def folders(self, prefix: str) -> Sequence[str]:
        """See :class:`ObjectStore`."""
        return self._backend.folders(prefix)

    def uri(self, key: str) -> str:
        """See :class:`ObjectStore`."""
        return self._backend.uri(key)

    def path(self, key: str) -> Path | None:
        """See :class:`ObjectStore`."""
        return self._backend.path(key)

    def lease_object(self, key: str, *, one_of_many: bool = False) -> LeaseObject:
        """See :class:`ObjectStore`."""
        return self._backend.lease_object(key, one_of_many=one_of_many)

    def temporaries(self, before: datetime | None = None) -> Sequence[ObjectInfo]:
        """See :class:`ObjectStore`."""
        return self._backend.temporaries(before)

    def each_of(
        self, action: Callable[[_Item], _Result], items: Sequence[_Item]
    ) -> Sequence[_Result]:
        """See :class:`ObjectStore`."""
        return self._backend.each_of(action, items)
