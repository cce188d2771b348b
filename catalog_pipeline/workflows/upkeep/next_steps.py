"""What a person is to do about a product, if anything: one line a row of the index."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.records import IndexRow, SkuStatus
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.versions import ROLLED_BACK

_FIRST = (SkuStatus.FAILED, SkuStatus.CHANGED, SkuStatus.NEW, SkuStatus.LEARNED, SkuStatus.RETIRED)


def photo_folder(home: Home, sku: str) -> str:
    """Where the photos of ``sku`` lie: a folder, or an address in the bucket."""
    bucket = home.settings.catalog.s3
    if bucket is None:
        return str(home.settings.catalog_root / sku)
    return f"s3://{bucket.bucket}/{'/'.join(filter(None, (bucket.prefix.strip('/'), sku)))}"


def is_rolled_back(row: IndexRow) -> bool:
    """Whether a rollback took the product out of what is served, or left older photos of it."""
    return row.status is SkuStatus.FAILED and row.reason.startswith(ROLLED_BACK)


def next_step(home: Home, row: IndexRow, *, folder: str = "") -> str:
    """The one thing to do about ``row``; empty where there is nothing.

    ``folder`` is what its folder is called; by default its path. A table has no room for a path:
    the UI breaks no word, so a long one takes the width of the other columns.
    """
    folder, few = folder or photo_folder(home, row.sku), home.settings.catalog.min_photos
    if row.status is SkuStatus.LEARNED:
        return ""
    if row.status is SkuStatus.RETIRED:
        return "nothing: the job catalog_retire cleans up; its photos are welcome back"
    if row.status is not SkuStatus.FAILED:
        return "nothing: catalog_watch asks for it; to learn it now, materialize learning/concept"
    if is_rolled_back(row):
        return (
            f"roll forward, or learn it again: `catalog-pipeline learn {row.sku}`, or materialize "
            "learning/concept for it"
        )
    if row.photo_count < few:
        return f"put {few - row.photo_count} more photos into {folder}"
    if row.photos_used:
        return (
            "look at the pictures of the refused candidate (events of its partition of "
            f"learning/concept); take other photos ({folder}) or change learning.yaml, and learn "
            "it again"
        )
    if row.left_out:
        return f"replace the {len(row.left_out)} photos that were left out, in {folder}"
    return f"do what the reason says, in {folder}; a change there is seen within a minute"


def by_need(rows: Sequence[IndexRow]) -> list[IndexRow]:
    """The rows, those that wait for a person first, each kind by SKU."""
    return sorted(rows, key=lambda row: (_FIRST.index(row.status), row.sku))
