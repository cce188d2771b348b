"""Which keys every store can hold, where the archive lies, and what a key says of its bytes.

A key is a relative, ``/``-separated path. The same rules hold for folders and
buckets, so that a home can be copied from one to the other.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from datetime import date

from catalog_pipeline.errors import IntegrityError, StoreError

HOME_FOLDERS = (
    *("_staging", "_versions", "audit", "base", "catalog", "collections", "images"),
    *("keys", "learning", "manifest", "plans", "quarantine", "removals", "reports"),
)
"""What every key of the program begins with; a home may lie in a folder that holds other things."""

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
IMAGE_PREFIX = "images/sha256="
MANIFEST_PREFIX = "manifest/dt="
VERSIONS_PREFIX = f"_versions/{MANIFEST_PREFIX}"
STAGING_PREFIX = "_staging/dt="
QUARANTINE_PREFIX = "quarantine/dt="
LEARNING_PREFIX = "learning/dt="
PLANS_PREFIX = "plans/dt="
PAGES_PREFIX = "reports/"
SEALED_SUFFIX = ".sealed"
"""Ends the key of what is stored encrypted; see :mod:`catalog_pipeline.stores.sealed`."""


def image_key(sha256: str) -> str:
    """Where the PNG with this SHA-256 is stored."""
    return f"{IMAGE_PREFIX}{sha256}.png"


def anchors_key(sku: str) -> str:
    """What is known of the photos of ``sku``: figures, names and hashes."""
    return f"catalog/anchors/{check_segment(sku, 'SKU')}.json"


def manifest_key(day: date) -> str:
    """The published manifest of ``day``."""
    return f"{MANIFEST_PREFIX}{day.isoformat()}/part-0.parquet"


def quarantine_key(day: date) -> str:
    """The pictures of ``day`` that are held back."""
    return f"{QUARANTINE_PREFIX}{day.isoformat()}/part-0.parquet"


def learning_key(day: date) -> str:
    """What was learned and refused on ``day``."""
    return f"{LEARNING_PREFIX}{day.isoformat()}/part-0.parquet"


def version_key(day: date, version: str) -> str:
    """The immutable copy of one state of the manifest of ``day``."""
    return f"{VERSIONS_PREFIX}{day.isoformat()}/{check_segment(version, 'version')}.parquet"


def staging_folder(day: date) -> str:
    """What lies before the shards of ``day``, without a trailing slash."""
    return f"{STAGING_PREFIX}{day.isoformat()}"


def days_of(keys: Iterable[str], prefix: str) -> list[date]:
    """The days whose folders ``<prefix>YYYY-MM-DD`` hold ``keys``, oldest first.

    Raises:
        StoreError: a folder is not named by a day.
    """
    return sorted({_day(key.removeprefix(prefix).partition("/")[0]) for key in keys})


def _day(name: str) -> date:
    with suppress(ValueError):
        day = date.fromisoformat(name)
        if day.isoformat() == name:  # 20260301 would be read as well, but never written
            return day
    raise StoreError(
        f"a folder dt={name} lies beside the nights; expected dt=YYYY-MM-DD; move it away"
    )


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
