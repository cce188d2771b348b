"""One mover of a collection's head at a time, one learner of a SKU: leases, and the fence.

A lease saves work, the fence saves the data: a run that lost its lease without
noticing still cannot promote (see :mod:`catalog_pipeline.stores.head`).

- In a bucket, as in any store: ``LEASE.json`` itself, taken by compare-and-swap,
  renewed by a thread every third of its life. It is free again once ``expires_utc``
  has passed, once a waiter has seen it unrenewed for its whole life by the waiter's own
  stopwatch (so a clock that was set back holds nobody up), or at once when the holder
  was a process of this machine and is dead. Hosts whose clocks differ by more than the
  life (60 s) may train side by side, but only the later one can promote.
- In a folder: a lock file held by the process
  (:class:`~catalog_pipeline.stores.local.LockFileLease`).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from catalog_pipeline.errors import (
    ConflictError,
    LockTimeoutError,
    ObjectNotFoundError,
    StoreError,
)
from catalog_pipeline.stores.process_identity import is_known_dead, own_process

if TYPE_CHECKING:
    from catalog_pipeline.stores.objects import ObjectStore

LEASE_SECONDS = 60.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Lease:
    """The right to promote, until someone draws a larger ``fence``."""

    fence: int
    lost: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def is_lost(self) -> bool:
        """Whether the lease is known to be gone; a promotion would raise ConflictError."""
        return self.lost.is_set()


@dataclass(frozen=True)
class LeaseRecord:
    """``LEASE.json``: who holds a collection; an empty ``holder`` means nobody."""

    holder: str
    token: str
    expires_utc: datetime | None
    process: str = ""

    def encode(self) -> bytes:
        """JSON bytes."""
        expires = self.expires_utc.isoformat() if self.expires_utc else None
        content = {
            "expires_utc": expires,
            "holder": self.holder,
            "process": self.process,
            "token": self.token,
        }
        return json.dumps(content, sort_keys=True).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> LeaseRecord:
        """The record of :meth:`encode`; StoreError when it is not one."""
        try:
            content = json.loads(data)
            expires = content["expires_utc"]
            return cls(
                str(content["holder"]),
                str(content["token"]),
                datetime.fromisoformat(expires) if expires else None,
                str(content.get("process", "")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"this is not a lease ({error}); delete it when nothing is learning"
            ) from error


class LeaseObject:
    """The lease under one key; compare-and-swap only, so that any store can do it.

    ``one_of_many`` leaves nothing behind once it is free. A process that takes it in the
    milliseconds before it is removed may lose it, as it would to an expiry.
    """

    def __init__(self, objects: ObjectStore, key: str, *, one_of_many: bool = False) -> None:
        self._objects = objects
        self.key = key
        self._one_of_many = one_of_many

    def read(self) -> LeaseRecord | None:
        """Who holds, or last held, the lease; ``None`` when nobody is on record."""
        record, _ = self._read()
        return record if record is not None and record.holder else None

    def is_held(self) -> bool:
        """Whether a living process holds the lease now."""
        record, _ = self._read()
        return record is not None and not _is_free(record)

    @contextmanager
    def hold(self, timeout_seconds: float, lease_seconds: float) -> Iterator[threading.Event]:
        """Hold the lease; the event is set when it is known to be lost.

        Raises:
            LockTimeoutError: another process held it for ``timeout_seconds``.
        """
        record, version = self._take(timeout_seconds, lease_seconds)
        renewal = _Renewal(self._objects, self.key, record, version, lease_seconds)
        renewal.start()
        try:
            yield renewal.lost
        finally:
            renewal.finish()
            if self._one_of_many and not renewal.lost.is_set():
                self._objects.delete(self.key)

    def clear_stale(self) -> LeaseRecord | None:
        """Take the name of a dead holder off; returns it, or ``None`` when there is none.

        A living holder keeps its lease: its record has not expired, and the record
        changes by compare-and-swap.

        Raises:
            StoreError: ``LEASE.json`` is not a lease.
        """
        record, version = self._read()
        if record is None or not record.holder or not _is_free(record):
            return None
        try:
            self._objects.compare_and_swap(self.key, LeaseRecord("", "", None).encode(), version)
        except ConflictError:
            return None  # somebody took it over at this moment
        if self._one_of_many:
            self._objects.delete(self.key)
        return record

    def _read(self) -> tuple[LeaseRecord | None, str | None]:
        try:
            stored = self._objects.read(self.key)
        except ObjectNotFoundError:
            return None, None
        return LeaseRecord.decode(stored.data), stored.version

    def _take(self, timeout_seconds: float, lease_seconds: float) -> tuple[LeaseRecord, str]:
        deadline = time.monotonic() + timeout_seconds
        own = LeaseRecord(own_name(), secrets.token_hex(8), None, own_process())
        watched, watched_since = None, time.monotonic()
        while True:
            found, version = self._read()
            if version != watched:
                watched, watched_since = version, time.monotonic()
            unrenewed = time.monotonic() - watched_since >= lease_seconds
            if found is None or _is_free(found) or unrenewed:
                record = _renewed(own, lease_seconds)
                try:
                    swap = self._objects.compare_and_swap
                    return record, swap(self.key, record.encode(), version)
                except ConflictError:
                    found, _ = self._read()
            if time.monotonic() >= deadline:
                raise self._timed_out(timeout_seconds, found)
            time.sleep(_POLL_SECONDS * (1 + secrets.randbelow(100) / 100))

    def _timed_out(self, seconds: float, holder: LeaseRecord | None) -> LockTimeoutError:
        who = holder.holder if holder and holder.holder else "another process"
        what = self.key.removesuffix(".json").removesuffix("/LEASE")
        return LockTimeoutError(
            f"{what} is held by {who}; waited {seconds:g} s; wait until it has "
            "finished learning, or stop it"
        )


class _Renewal:
    """Keeps a lease alive until :meth:`finish`, which frees it."""

    def __init__(
        self,
        objects: ObjectStore,
        key: str,
        record: LeaseRecord,
        version: str,
        lease_seconds: float,
    ) -> None:
        self.lost = threading.Event()
        self._objects, self._key = objects, key
        self._record, self._version = record, version
        self._lease_seconds = lease_seconds
        self._renewed_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease {key}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self.lost.is_set():
            self._swap(LeaseRecord("", "", None))

    def _run(self) -> None:
        while not self._stop.wait(self._lease_seconds / 3):
            self._swap(_renewed(self._record, self._lease_seconds))
            if self.lost.is_set():
                return

    def _swap(self, record: LeaseRecord) -> None:
        try:
            self._version = self._objects.compare_and_swap(
                self._key, record.encode(), self._version
            )
            self._renewed_at = time.monotonic()
        except ConflictError:
            self.lost.set()
        except StoreError:
            # The server may answer again before the lease runs out; after that it is gone.
            if time.monotonic() - self._renewed_at >= self._lease_seconds:
                self.lost.set()


def _is_free(record: LeaseRecord) -> bool:
    if not record.holder or is_known_dead(record.process):
        return True
    return record.expires_utc is not None and record.expires_utc < datetime.now(UTC)


def _renewed(record: LeaseRecord, lease_seconds: float) -> LeaseRecord:
    expires = datetime.now(UTC) + timedelta(seconds=lease_seconds)
    return replace(record, expires_utc=expires)


def own_name() -> str:
    """This process, for people."""
    return f"process {os.getpid()} on {socket.gethostname()}"
