"""The first night that a home knows of, found without opening anything in it.

Read whenever Dagster loads the definitions, so it imports no more than it must.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, tzinfo

from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.keys import MANIFEST_PREFIX, PLANS_PREFIX, QUARANTINE_PREFIX
from catalog_pipeline.stores.objects import ObjectStore


def first_night(settings: Settings, zone: tzinfo) -> date | None:
    """The oldest night with a plan, a manifest or held-back pictures; else when learning began.

    Manifests are never removed, so this is the same day for a home ever after its first night.
    Folders that are no night are passed over; ``doctor`` names them.

    Args:
        settings: say which folder or bucket the home is.
        zone: the time zone of the schedules, for the day of the first learning.

    Returns:
        ``None`` for a home in which nothing has been learned and no night was made.

    Raises:
        StoreError: the folder or bucket cannot be listed.
        ConfigurationError: the bucket cannot be used.
    """
    if settings.archive.s3 is None and not settings.home.is_dir():
        return None
    objects = _open(settings)
    nights = [
        night
        for prefix in (MANIFEST_PREFIX, QUARANTINE_PREFIX, PLANS_PREFIX)
        for key in objects.list(prefix)
        if (night := _night(key.removeprefix(prefix)))
    ]
    if nights:
        return min(nights)
    versions = [stored for stored in objects.scan("collections/") if "/versions/" in stored.key]
    learned = [stored.modified_utc.astimezone(zone).date() for stored in versions]
    return min(learned, default=None)


def _night(name: str) -> date | None:
    with suppress(ValueError):
        if re.match(r"\d{4}-\d\d-\d\d/", name):
            return date.fromisoformat(name[:10])
    return None


def _open(settings: Settings) -> ObjectStore:
    if settings.archive.s3 is not None:
        from catalog_pipeline.stores.s3 import S3ObjectStore

        return S3ObjectStore(settings.archive.s3)
    from catalog_pipeline.stores.local import LocalObjectStore

    return LocalObjectStore(settings.home)
