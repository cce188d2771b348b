"""The one object store that a run's state lives in: what it promises, and which keys it accepts.

A key is a relative, ``/``-separated path. The same rules hold for folders and
buckets, so that a home can be copied from one to the other.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.settings import Settings

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255


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


class ObjectStore(Protocol):
    """Bytes under keys; every write is atomic and durable once the call returns.

    A reader sees an old object or a new one in full, never part of one, whatever
    process dies when. All methods raise :class:`StoreError` with the key and the
    cause when the disk or the server refuses, :class:`StorageFullError` when there is
    no room; a refused write leaves nothing behind.
    """

    def read(self, key: str) -> StoredObject:
        """The object under ``key``.

        Raises:
            ObjectNotFoundError: nothing is stored there.
            IntegrityError: the bytes do not match the digest in the key, or the one
                stored with them.
        """
        ...

    def exists(self, key: str) -> bool:
        """Whether an object is stored under ``key``."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create ``key``; ``True`` when this call created it, ``False`` when it was there.

        Of any number of racing callers exactly one gets ``True``.
        """
        ...

    def put(self, key: str, data: bytes) -> str:
        """Write ``key`` whatever is there; returns the new version."""
        ...

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str:
        """Replace ``key`` only while its version is ``expected``; returns the new version.

        ``expected=None`` means that the key must not exist yet.

        Raises:
            ConflictError: someone else wrote in between; read again and retry.
        """
        ...

    def list(self, prefix: str) -> list[str]:
        """Every key that starts with ``prefix``, sorted."""
        ...

    def scan(self, prefix: str) -> Sequence[ObjectInfo]:
        """What :meth:`list` gives, with sizes and times of the last write."""
        ...

    def info(self, key: str) -> ObjectInfo:
        """Size and time of the last write of ``key``.

        Raises:
            ObjectNotFoundError: nothing is stored there.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove ``key``; absent is fine."""
        ...

    def delete_if_older(self, key: str, before: datetime) -> bool:
        """Remove ``key`` when it was last written before ``before``; whether this call did.

        In a folder, one step against every writer. In a bucket, a look and a removal:
        a write in the milliseconds between is lost.
        """
        ...

    def uri(self, key: str) -> str:
        """Where ``key`` is, for people and query engines: a path or ``s3://...``."""
        ...


def open_object_store(settings: Settings) -> ObjectStore:
    """The bucket of ``archive.yaml: s3`` when it is set, else the folder ``settings.home``.

    Opening touches neither; the first call does.

    Raises:
        ConfigurationError: a bucket is set and boto3 is not installed.
    """
    from catalog_pipeline.stores.local import LocalObjectStore
    from catalog_pipeline.stores.s3 import S3ObjectStore

    if settings.archive.s3 is not None:
        return S3ObjectStore(settings.archive.s3)
    return LocalObjectStore(settings.home)


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of ``data``, 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


_NAMED_BY_DIGEST = re.compile(
    r"(?:images/sha256=|collections/[^/]+/(?:parts|pages)/|_versions/(?:[^/]+/)+)"
    r"([0-9a-f]{64})\.[a-z]+"
)


def named_digest(key: str) -> str | None:
    """The SHA-256 that ``key`` says its bytes have; ``None`` when it says nothing of them."""
    match = _NAMED_BY_DIGEST.fullmatch(key)
    return match[1] if match else None


def check_digest(key: str, found: str, where: str) -> None:
    """IntegrityError when ``key`` names another SHA-256 than ``found``; ``where`` names it."""
    named = named_digest(key)
    if named is not None and named != found:
        raise IntegrityError(
            f"{where} is corrupted: it hashes to {found[:12]}, expected {named[:12]}; restore it "
            "from a backup, or delete it and make it again (a picture: render the night again; a "
            "part: learn again or roll back)"
        )


def check_key(key: str) -> str:
    """``key`` itself when every store can hold it.

    Raises:
        StoreError: absolute, empty, climbing (``..``), hidden (a segment with a
            leading dot, reserved for temporary files and locks), with a control
            character or a backslash, or too long.
    """
    problem = _key_problem(key)
    if problem:
        raise StoreError(
            f"object key {key!r} {problem}; expected a relative path such as "
            "'collections/default/HEAD.json'"
        )
    return key


def check_prefix(prefix: str) -> str:
    """``prefix`` itself when it can begin a key; ``""`` lists everything."""
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def check_segment(name: str, what: str) -> str:
    """``name`` itself when it can be one part of a key; ``what`` names it in the error."""
    problem = "holds a '/'" if "/" in name else _key_problem(name)
    if problem:
        raise StoreError(f"{what} {name!r} {problem}; expected a plain name such as 'default'")
    return name


def _key_problem(key: str) -> str:
    if not key:
        return "is empty"
    if "\\" in key:
        return "holds a backslash"
    if not key.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs") for c in key):
        return "holds a control character"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"is longer than {MAX_KEY_BYTES} bytes"
    for segment in key.split("/"):
        if not segment:
            return "is absolute or has an empty part"
        if segment.startswith("."):
            return "has a part that begins with a dot"
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            return f"has a part longer than {MAX_SEGMENT_BYTES} bytes"
    return ""
