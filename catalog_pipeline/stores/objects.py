"""The one object store that a run's state lives in: what it promises, and what it can do.

A backend is one file with a subclass of :class:`ObjectStore`, and a line where a home
chooses its own. Callers never ask which one they have.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from catalog_pipeline.errors import ConflictError, IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.keys import check_key
from catalog_pipeline.stores.leases import LeaseObject

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

REWRITTEN_AFTER = timedelta(hours=1)
"""Content that is used again and older than this is written again, which makes it young.

A clean-up takes only objects that nothing names and nobody wrote for its grace period
(hours to days). A writer that finds its content there already is about to name it.
"""

ATTEMPTS = 64
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class StoredObject:
    """An object's bytes, and the version token that ``compare_and_swap`` expects."""

    data: bytes
    version: str


@dataclass(frozen=True)
class ObjectInfo:
    """What a store knows of an object without reading it; ``modified_utc`` is the store's clock."""

    key: str
    size_bytes: int
    modified_utc: datetime


class ObjectStore(ABC):
    """Bytes under keys; every write is atomic and durable once the call returns.

    A reader sees an old object or a new one in full, never part of one, whatever
    process dies when. All methods raise :class:`StoreError` with the key and the
    cause when the disk or the server refuses, :class:`StorageFullError` when there is
    no room; a refused write leaves nothing behind. What is not abstract holds for every
    backend; one overrides it where it knows a faster or safer way.
    """

    @abstractmethod
    def read(self, key: str) -> StoredObject:
        """The object under ``key``.

        Raises:
            ObjectNotFoundError: nothing is stored there.
            IntegrityError: the bytes do not match the digest in the key, or the one
                stored with them.
        """

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create ``key``; ``True`` when this call created it, ``False`` when it was there.

        Of any number of racing callers exactly one gets ``True``.
        """

    @abstractmethod
    def put(self, key: str, data: bytes) -> str:
        """Write ``key`` whatever is there; returns the new version."""

    @abstractmethod
    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str:
        """Replace ``key`` only while its version is ``expected``; returns the new version.

        ``expected=None`` means that the key must not exist yet.

        Raises:
            ConflictError: someone else wrote in between; read again and retry.
        """

    @abstractmethod
    def info(self, key: str) -> ObjectInfo:
        """Size and time of the last write of ``key``.

        Raises:
            ObjectNotFoundError: nothing is stored there.
        """

    @abstractmethod
    def scan(self, prefix: str) -> Sequence[ObjectInfo]:
        """What :meth:`list` gives, with sizes and times of the last write."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove ``key``; absent is fine."""

    @abstractmethod
    def uri(self, key: str) -> str:
        """Where ``key`` is, for people and query engines: a path or ``s3://...``.

        ``*`` is allowed, for globs.
        """

    def path(self, key: str) -> Path | None:
        """The file that holds ``key``, where objects are files that any program may read in place.

        ``None`` where they are not; need not exist.
        """
        check_key(key)
        return None

    def for_skus(self, *skus: str) -> ObjectStore:
        """This store as a writer of what belongs to ``skus`` uses it; of none, to no SKU.

        Only a store that encrypts cares: what belongs to several is read with all of their keys.
        """
        return self

    def is_sealed(self, key: str) -> bool:
        """Whether ``key`` is stored encrypted, so that no other program reads it at its URI."""
        return False

    def exists(self, key: str) -> bool:
        """Whether an object is stored under ``key``."""
        try:
            self.info(key)
        except ObjectNotFoundError:
            return False
        return True

    def put_content(self, key: str, data: bytes) -> None:
        """Make ``key`` hold ``data``, its only possible content, and be young. Idempotent.

        For objects that are named by their content, beside a clean-up that may run at
        any time. Bytes that have rotted are replaced by the good ones.
        """
        if self.put_if_absent(key, data):
            return
        try:
            young = self.info(key).modified_utc > datetime.now(UTC) - REWRITTEN_AFTER
            if young and self.read(key).data == data:
                return
        except (IntegrityError, ObjectNotFoundError):
            pass  # rotten, or taken by a clean-up a moment ago
        self.put(key, data)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove ``keys``; absent is fine. After a call that failed or died some may be left."""
        self.each_of(self.delete, keys)

    def delete_if_older(self, key: str, before: datetime) -> bool:
        """Remove ``key`` when it was last written before ``before``; whether this call did.

        In a folder, one step against every writer. In a bucket, a look and a removal:
        a write in the milliseconds between is lost.
        """
        try:
            if self.info(key).modified_utc >= before:
                return False
        except ObjectNotFoundError:
            return False
        self.delete(key)
        return True

    def lease_object(self, key: str, *, one_of_many: bool = False) -> LeaseObject:
        """The lease under ``key``; opening it touches nothing.

        ``one_of_many``: there may be a million such keys, and a free one leaves nothing.
        """
        return LeaseObject(self, key, one_of_many=one_of_many)

    def temporaries(self, before: datetime | None = None) -> Sequence[ObjectInfo]:
        """What writes in flight, or killed ones, left that is no object; names are no keys.

        Only what was last written before ``before``, when that is given.
        """
        return ()

    def remove_temporaries(self, before: datetime) -> Sequence[ObjectInfo]:
        """Drop the :meth:`temporaries` last written before ``before``; returns them."""
        return ()

    def each_of(
        self, action: Callable[[_Item], _Result], items: Sequence[_Item]
    ) -> Sequence[_Result]:
        """``action`` of every item, in their order; of several errors the first item's is raised.

        Several at once where the store answers several as fast as one.
        """
        return [action(item) for item in items]

    def missing_keys(self, keys: Iterable[str]) -> Sequence[str]:
        """Those of ``keys`` under which nothing is stored, sorted."""
        wanted = sorted(set(keys))
        found = self.each_of(self.exists, wanted)
        return [key for key, exists in zip(wanted, found, strict=True) if not exists]

    def list(self, prefix: str) -> list[str]:
        """Every key that starts with ``prefix``, sorted."""
        return [found.key for found in self.scan(prefix)]

    def folders(self, prefix: str) -> Sequence[str]:
        """What stands between ``prefix``, which ends in ``/``, and the next ``/`` of keys, sorted.

        A folder that holds nothing is none.
        """
        below = (key.removeprefix(prefix).partition("/") for key in self.list(prefix))
        return sorted({name for name, slash, _ in below if slash})


def until_won(attempt: Callable[[], _Result], what: str) -> _Result:
    """The result of ``attempt``, called again after each :class:`ConflictError`.

    ``attempt`` must read afresh and end in one compare-and-swap: then some writer
    wins every round, and random growing pauses keep the losers apart.

    Raises:
        ConflictError: lost 64 times in a row; names ``what``.
    """
    pause = _FIRST_PAUSE_SECONDS
    for _ in range(ATTEMPTS):
        try:
            return attempt()
        except ConflictError:
            time.sleep(random.uniform(0, pause))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    raise ConflictError(
        f"{what} changed {ATTEMPTS} times while this writer tried to change it; too many "
        "writers at once: run again"
    )
