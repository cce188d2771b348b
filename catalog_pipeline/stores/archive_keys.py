"""Where pictures, manifests, their earlier states and staged rows lie."""

from __future__ import annotations

from datetime import date

from catalog_pipeline.errors import StoreError
from catalog_pipeline.stores.objects import check_segment

IMAGE_PREFIX = "images/sha256="
MANIFEST_PREFIX = "manifest/dt="
VERSIONS_PREFIX = f"_versions/{MANIFEST_PREFIX}"
STAGING_PREFIX = "_staging/dt="
QUARANTINE_PREFIX = "quarantine/dt="


def image_key(sha256: str) -> str:
    """Where the PNG with this SHA-256 is stored."""
    return f"{IMAGE_PREFIX}{sha256}.png"


def manifest_key(day: date) -> str:
    """The published manifest of ``day``."""
    return f"{MANIFEST_PREFIX}{day.isoformat()}/part-0.parquet"


def quarantine_key(day: date) -> str:
    """The pictures of ``day`` that are held back."""
    return f"{QUARANTINE_PREFIX}{day.isoformat()}/part-0.parquet"


def version_key(day: date, version: str) -> str:
    """The immutable copy of one state of the manifest of ``day``."""
    return f"{VERSIONS_PREFIX}{day.isoformat()}/{check_segment(version, 'version')}.parquet"


def staging_folder(day: date) -> str:
    """What lies before the shards of ``day``, without a trailing slash."""
    return f"{STAGING_PREFIX}{day.isoformat()}"


def parsed_day(name: str) -> date:
    """The date of a folder ``dt=<name>``; StoreError when it is none."""
    try:
        return date.fromisoformat(name)
    except ValueError as error:
        raise StoreError(
            f"a folder dt={name} lies beside the nights; expected dt=YYYY-MM-DD; move it away"
        ) from error
