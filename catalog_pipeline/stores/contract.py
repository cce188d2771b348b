"""What a store of objects promises, and which keys it accepts.

A key is a relative, ``/``-separated path. The same rules hold for folders and
buckets, so that a home can be copied from one to the other.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Protocol

from catalog_pipeline.errors import StoreError

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255


@dataclass(frozen=True)
class StoredObject:
    """An object's bytes, and the version token that ``compare_and_swap`` expects."""

    data: bytes
    version: str


class ObjectStore(Protocol):
    """Bytes under keys; every write is atomic and durable once the call returns.

    A reader sees an old object or a new one in full, never part of one, whatever
    process dies when. All methods raise :class:`StoreError` with the key and the
    cause when the disk or the server refuses.
    """

    def read(self, key: str) -> StoredObject:
        """The object under ``key``.

        Raises:
            ObjectNotFoundError: nothing is stored there.
            IntegrityError: the bytes do not match the digest stored with them.
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

    def delete(self, key: str) -> None:
        """Remove ``key``; absent is fine."""
        ...

    def uri(self, key: str) -> str:
        """Where ``key`` is, for people and query engines: a path or ``s3://...``."""
        ...


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of ``data``, 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


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
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in key):
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
