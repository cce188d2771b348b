"""The products that a night could not learn: why, their photos, and what the gate saw of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.records import IndexRow, LearningRow, Pixels, SkuListing, SkuStatus
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.report_pages import listed_products, readable_photo

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.night_report import RefusedProduct, ShownPhoto

_PHOTOS_SHOWN = 8
_CLOCKS_APART = timedelta(minutes=5)
"""How much later than the attempt a store may date what was kept of it."""


def refused_products(
    home: Home, attempts: Sequence[LearningRow], index: Sequence[IndexRow]
) -> list[tuple[RefusedProduct, LearningRow | None]]:
    """Products whose newest attempt failed, and of ``index`` those that failed before one.

    ``index`` is empty for a night that is not the newest: it knows the present alone. A
    product that has left the catalog since is no longer to be mended.
    """
    newest = {attempt.sku: attempt for attempt in attempts}
    gone = {row.sku for row in index if row.status is SkuStatus.RETIRED}
    failed = [a for sku, a in newest.items() if a.status == "failed" and sku not in gone]
    only_listed = [r for r in index if r.status is SkuStatus.FAILED and r.sku not in newest]
    skus = [*(a.sku for a in failed), *(row.sku for row in only_listed)]
    listings = listed_products(home, skus)
    found: list[tuple[RefusedProduct, LearningRow | None]] = []
    for attempt in failed:
        product = _product(home, attempt, listings.get(attempt.sku))
        found.append((product, attempt))
    found += [(_listed(home, row, listings.get(row.sku)), None) for row in only_listed]
    return sorted(found, key=lambda entry: entry[0].sku)


def _product(home: Home, attempt: LearningRow, listing: SkuListing | None) -> RefusedProduct:
    from catalog_pipeline.evaluation.night_report import RefusedProduct, ShownPhoto

    photos = tuple(
        ShownPhoto(use.key, use.reason, readable_photo(home, use.key))
        for use in attempt.photos[:_PHOTOS_SHOWN]
    )
    return RefusedProduct(
        attempt.sku,
        attempt.reason.removeprefix(f"{attempt.sku}: "),
        photos or _listed_photos(home, listing),
        _candidate(home, attempt) if attempt.metrics else None,
    )


def _listed(home: Home, row: IndexRow, listing: SkuListing | None) -> RefusedProduct:
    from catalog_pipeline.evaluation.night_report import RefusedProduct

    reason = row.reason.removeprefix(f"{row.sku}: ")
    return RefusedProduct(row.sku, reason, _listed_photos(home, listing))


def _listed_photos(home: Home, listing: SkuListing | None) -> tuple[ShownPhoto, ...]:
    from catalog_pipeline.evaluation.night_report import ShownPhoto

    if listing is None:
        return ()
    refs = listing.photos[:_PHOTOS_SHOWN]
    files = [ShownPhoto(ref.key, "", readable_photo(home, ref.key)) for ref in refs]
    return (*files, *(ShownPhoto(file.key, file.reason) for file in listing.refused))


def _candidate(home: Home, attempt: LearningRow) -> Pixels | None:
    """The picture that was kept of the candidate which this attempt made."""
    from catalog_pipeline.evaluation.contact_sheet import decode_png

    prefix = f"collections/{attempt.collection}/quarantine/{attempt.sku}-"
    name = re.compile(re.escape(prefix) + r"[0-9a-f]{16}/pictures\.png")
    kept = [
        info
        for info in home.objects.scan(prefix)
        if name.fullmatch(info.key) and info.modified_utc <= attempt.ended_utc + _CLOCKS_APART
    ]
    if not kept:
        return None
    newest = max(kept, key=lambda info: info.modified_utc)
    try:
        return decode_png(home.objects.read(newest.key).data)
    except (ObjectNotFoundError, IntegrityError):
        return None  # Kept to be looked at, and free to be deleted at any time.
