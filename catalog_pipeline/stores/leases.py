"""One learner at a time per collection: a lease, and the fence that makes it safe.

The lease saves work, the fence saves the data: a run that lost its lease without
noticing still cannot promote (see :mod:`catalog_pipeline.stores.head`).

- In a folder: a lock file held by the process. The system frees it when the
  process dies, however it dies. ``LEASE.json`` only tells people who holds it.
- In a bucket: ``LEASE.json`` itself, taken by compare-and-swap, renewed by a
  thread every third of its life. It is free again once ``expires_utc`` has passed,
  once a waiter has seen it unrenewed for its whole life by the waiter's own stopwatch
  (so a clock that was set back holds nobody up), or at once when the holder was a
  process of this machine and is dead. Hosts whose clocks differ by more than the life
  (60 s) may train side by side, but only the later one can promote.
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

from filelock import FileLock, Timeout

from catalog_pipeline.errors import (
    ConflictError,
    LockTimeoutError,
    ObjectNotFoundError,
    StoreError,
)
from catalog_pipeline.stores.head import HeadObject
from catalog_pipeline.stores.local import LocalObjectStore, write_error
from catalog_pipeline.stores.objects import ObjectStore, sha256_hex
from catalog_pipeline.stores.process_identity import is_known_dead, own_process

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
                f"LEASE.json is not a lease ({error}); delete it when nothing is learning"
            ) from error


@contextmanager
def hold_lease(
    objects: ObjectStore,
    lease_key: str,
    head: HeadObject,
    *,
    timeout_seconds: float,
    lease_seconds: float = LEASE_SECONDS,
) -> Iterator[Lease]:
    """Hold the collection that ``lease_key`` belongs to, with a fence of its own.

    Raises:
        LockTimeoutError: another process held it for ``timeout_seconds``.
    """
    if isinstance(objects, LocalObjectStore):
        with _file_lock(objects, lease_key, timeout_seconds):
            yield Lease(head.issue_fence())
        return
    record, version = _take(objects, lease_key, timeout_seconds, lease_seconds)
    renewal = _Renewal(objects, lease_key, record, version, lease_seconds)
    try:
        lease = Lease(head.issue_fence(), renewal.lost)
        renewal.start()
        yield lease
    finally:
        renewal.finish()


def is_held(objects: ObjectStore, lease_key: str) -> bool:
    """Whether a living process holds the lease now."""
    if isinstance(objects, LocalObjectStore):
        lock = FileLock(_lock_path(objects, lease_key), thread_local=False)
        try:
            with lock.acquire(blocking=False):
                return False
        except Timeout:
            return True
    record, _ = _read(objects, lease_key)
    return record is not None and not _is_free(record)


def read_lease(objects: ObjectStore, lease_key: str) -> LeaseRecord | None:
    """Who holds, or last held, the lease; ``None`` when nobody is on record."""
    record, _ = _read(objects, lease_key)
    return record if record is not None and record.holder else None


def clear_stale_lease(objects: ObjectStore, lease_key: str) -> LeaseRecord | None:
    """Take the name of a dead holder off the lease; returns it, or ``None`` when there is none.

    A living holder keeps its lease: in a folder it holds the lock file, in a bucket its
    record has not expired, and the record changes by compare-and-swap.

    Raises:
        StoreError: ``LEASE.json`` is not a lease.
    """
    if isinstance(objects, LocalObjectStore):
        lock = FileLock(_lock_path(objects, lease_key), thread_local=False)
        try:
            with lock.acquire(blocking=False):
                record, version = _read(objects, lease_key)
                if version is not None:
                    objects.delete(lease_key)
        except Timeout:
            return None
        return record
    record, version = _read(objects, lease_key)
    if record is None or not record.holder or not _is_free(record):
        return None
    try:
        objects.compare_and_swap(lease_key, LeaseRecord("", "", None).encode(), version)
    except ConflictError:
        return None  # somebody took it over at this moment
    return record


def _lock_path(objects: LocalObjectStore, lease_key: str) -> str:
    return str(objects.lock_path(f"lease-{sha256_hex(lease_key.encode())[:16]}"))


@contextmanager
def _file_lock(objects: LocalObjectStore, lease_key: str, timeout_seconds: float) -> Iterator[None]:
    # Not bound to a thread: a generator that holds the lease may be resumed by another one.
    path = _lock_path(objects, lease_key)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=max(0.0, timeout_seconds))
    except Timeout as error:
        holder = read_lease(objects, lease_key)
        raise _timed_out(lease_key, timeout_seconds, holder) from error
    except OSError as error:
        raise write_error(path, error) from error
    try:
        objects.put(lease_key, LeaseRecord(_own_name(), secrets.token_hex(8), None).encode())
        try:
            yield
        finally:
            objects.delete(lease_key)
    finally:
        lock.release()


def _take(
    objects: ObjectStore, lease_key: str, timeout_seconds: float, lease_seconds: float
) -> tuple[LeaseRecord, str]:
    deadline = time.monotonic() + timeout_seconds
    own = LeaseRecord(_own_name(), secrets.token_hex(8), None, own_process())
    watched, watched_since = None, time.monotonic()
    while True:
        found, version = _read(objects, lease_key)
        if version != watched:
            watched, watched_since = version, time.monotonic()
        unrenewed = time.monotonic() - watched_since >= lease_seconds
        if found is None or _is_free(found) or unrenewed:
            record = _renewed(own, lease_seconds)
            try:
                return record, objects.compare_and_swap(lease_key, record.encode(), version)
            except ConflictError:
                found, _ = _read(objects, lease_key)
        if time.monotonic() >= deadline:
            raise _timed_out(lease_key, timeout_seconds, found)
        time.sleep(_POLL_SECONDS * (1 + secrets.randbelow(100) / 100))


class _Renewal:
    """Keeps a bucket lease alive until :meth:`finish`, which frees it."""

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


def _read(objects: ObjectStore, lease_key: str) -> tuple[LeaseRecord | None, str | None]:
    try:
        stored = objects.read(lease_key)
    except ObjectNotFoundError:
        return None, None
    return LeaseRecord.decode(stored.data), stored.version


def _is_free(record: LeaseRecord) -> bool:
    if not record.holder or is_known_dead(record.process):
        return True
    return record.expires_utc is not None and record.expires_utc < datetime.now(UTC)


def _renewed(record: LeaseRecord, lease_seconds: float) -> LeaseRecord:
    expires = datetime.now(UTC) + timedelta(seconds=lease_seconds)
    return replace(record, expires_utc=expires)


def _own_name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _timed_out(
    lease_key: str, timeout_seconds: float, holder: LeaseRecord | None
) -> LockTimeoutError:
    who = holder.holder if holder and holder.holder else "another process"
    return LockTimeoutError(
        f"{lease_key.rpartition('/')[0]} is held by {who}; waited {timeout_seconds:g} s; "
        "wait until it has finished learning, or stop it"
    )
