"""What shows photos or unreleased pictures, and is therefore kept for a time only.

Found by the age of each object, so that a kill harms nothing: what is left is old enough too, and
the next sweep takes it. What is written again is young again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from catalog_pipeline.stores.garbage import Garbage, Kind
from catalog_pipeline.stores.keys import PAGES_PREFIX, QUARANTINE_PREFIX
from catalog_pipeline.stores.objects import ObjectStore

_OF_A_NIGHT = "/part-0.parquet"
_SHOW_PICTURES = (".html", ".png")


def find_refused(
    objects: ObjectStore, collections: Iterable[str], before: datetime
) -> list[Garbage]:
    """Weights, pictures and figures of refused candidates last written before ``before``."""
    return [
        item
        for name in collections
        for item in _old(objects, "refused candidate", f"collections/{name}/quarantine/", before)
    ]


def find_held_back(objects: ObjectStore, before: datetime) -> list[Garbage]:
    """Nights' rows of held back pictures, where none of the night changed since ``before``.

    Their pictures are then named by nobody: :func:`.find_images`.
    """
    found = _old(objects, "held back rows", QUARANTINE_PREFIX, before)
    return [item for item in found if item.key.endswith(_OF_A_NIGHT)]


def find_reports(objects: ObjectStore, before: datetime) -> list[Garbage]:
    """Pages and pictures for people last written before ``before``; figures (JSON) stay."""
    found = _old(objects, "report", PAGES_PREFIX, before)
    return [item for item in found if item.key.endswith(_SHOW_PICTURES)]


def _old(objects: ObjectStore, kind: Kind, prefix: str, before: datetime) -> list[Garbage]:
    return [Garbage(kind, info) for info in objects.scan(prefix) if info.modified_utc < before]
