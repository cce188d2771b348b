"""What a listing changes in the catalog index: pure functions over its rows.

A row's life::

    (absent) ──seen, settled──> new ──learned──> learned
                                 │                 │ photos or card changed
                                 │ failed          v
                                 └────> failed <── changed ──learned──> learned

    any ──folder gone──> retired ──folder back──> learned (same content), changed or new

``failed`` is left by other content, or by a person who asks for the SKU by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from catalog_pipeline.catalog.card import default_card
from catalog_pipeline.catalog.file_kinds import printable
from catalog_pipeline.catalog.listing import ListingResult
from catalog_pipeline.catalog.photo_set import too_few
from catalog_pipeline.errors import CatalogError, EmptyListingError
from catalog_pipeline.records import (
    IndexReport,
    IndexRow,
    PhotoUse,
    RefusedFile,
    Sku,
    SkuListing,
    SkuStatus,
)
from catalog_pipeline.settings import CatalogSettings

_FEWEST_FOR_FRACTION = 4
_MOST_BYTES = 2**63 - 1  # what a row can hold; a few sparse files can claim more
_NO_CARDS: Mapping[str, Sku | str] = MappingProxyType({})


def needs_card(row: IndexRow | None, listing: SkuListing) -> bool:
    """Whether a merge of ``listing`` over ``row`` asks for the SKU's card."""
    return row is None or row.content_hash != listing.content_hash


def is_settled(listing: SkuListing, *, now: datetime, settings: CatalogSettings) -> bool:
    """Whether nothing in the folder has moved for ``settle_seconds``."""
    return now - listing.newest_modified_utc >= timedelta(seconds=settings.settle_seconds)


def settled_at(listing: SkuListing, settings: CatalogSettings) -> datetime:
    """When the folder will have been still for ``settle_seconds``, if nothing moves any more."""
    try:
        return listing.newest_modified_utc + timedelta(seconds=settings.settle_seconds)
    except OverflowError:  # a file of the year 9999
        return datetime.max.replace(tzinfo=UTC)


def merge_index(
    old: Sequence[IndexRow],
    listing: ListingResult,
    *,
    now: datetime,
    settings: CatalogSettings,
    cards: Mapping[str, Sku | str] = _NO_CARDS,
) -> IndexReport:
    """The rows after ``listing``, and what it changed.

    A set with other content than its row counts once it has settled; until then the old
    row stays and the SKU is reported as unsettled. A row whose content is the same stays
    as it is, ``failed`` included. A SKU that is there but could not be read stays too.
    Idempotent: merging the same listing again changes nothing.

    Args:
        old: the rows so far.
        listing: what the source holds.
        now: the time of the listing, with a time zone.
        settings: settle window, fewest photos, retirement limit.
        cards: of each SKU with :func:`needs_card`, its card, or why it is wrong;
            a SKU that is not named gets the defaults.

    Raises:
        EmptyListingError: every known SKU, or more of them than ``retire_fraction_limit``
            allows, would be retired; one whose photos are listed under a new name is not lost.
    """
    known = {row.sku: row for row in old}
    retired = _vanished(known.values(), listing)
    renamed = _renamed(known, listing, retired)
    _refuse_mass_retirement(known, listing, set(retired).difference(renamed.values()), settings)
    rows = dict(known)
    added: list[str] = []
    changed: list[str] = []
    unsettled: dict[str, datetime] = {}
    for found in listing.listings:
        row = known.get(found.sku)
        back = row is None or row.status is SkuStatus.RETIRED
        if row is not None and not back and row.content_hash == found.content_hash:
            continue
        same_content = row is not None and row.content_hash == found.content_hash
        if not same_content and not is_settled(found, now=now, settings=settings):
            unsettled[found.sku] = settled_at(found, settings)
            continue
        card = cards.get(found.sku) if not same_content else None
        rows[found.sku] = _row(row, found, card, now=now, settings=settings)
        (added if back else changed).append(found.sku)
    for sku in retired:
        rows[sku] = replace(rows[sku], status=SkuStatus.RETIRED, reason="")
    wrong_cards = [
        RefusedFile(printable(found.card_key or found.sku), reason)
        for found in listing.listings
        if isinstance(reason := cards.get(found.sku), str)
    ]
    return IndexReport(
        rows=tuple(rows[sku] for sku in sorted(rows)),
        added=tuple(sorted(added)),
        changed=tuple(sorted(changed)),
        retired=tuple(retired),
        refused=(*listing.refused, *wrong_cards),
        unsettled=tuple(sorted(unsettled)),
        settled_utc=max(unsettled.values(), default=None),
        renamed={sku: before for sku, before in renamed.items() if sku in added},
    )


def mark_learned(
    rows: Sequence[IndexRow],
    sku: str,
    content_hash: str,
    *,
    listed_before: str = "",
    photos: Sequence[PhotoUse] = (),
    version: str = "",
    learned_utc: datetime | None = None,
) -> list[IndexRow]:
    """``rows`` after ``sku`` was learned from the photos of ``content_hash``.

    ``version`` and ``learned_utc`` are of the version that learned it; without them those of the
    row stay. ``listed_before`` is the content that the row had before the photos were read: while
    it still has it, the photos are the newer ones (a person corrected the folder and learned it at
    once), and the next listing finds them. Photos that were listed in the meantime leave the SKU
    ``changed``; a retired SKU stays retired and comes back as learned. Idempotent.

    Raises:
        CatalogError: the SKU is not in the index.
    """
    row = _find(rows, sku)
    status = row.status
    if status is not SkuStatus.RETIRED:
        current = row.content_hash in (content_hash, listed_before)
        status = SkuStatus.LEARNED if current else SkuStatus.CHANGED
    learned = replace(row, learned_hash=content_hash, status=status, reason="")
    if version:
        learned = replace(learned, learned_version=version, learned_utc=learned_utc)
    return _with(rows, _with_photos(learned, photos))


def mark_failed(
    rows: Sequence[IndexRow],
    sku: str,
    content_hash: str,
    reason: str,
    *,
    photos: Sequence[PhotoUse] = (),
) -> list[IndexRow]:
    """``rows`` after learning ``sku`` from the photos of ``content_hash`` failed.

    Photos that changed in the meantime, or a retired SKU, leave the row as it is: the
    verdict is about other photos. Idempotent.

    Raises:
        CatalogError: the SKU is not in the index.
    """
    row = _find(rows, sku)
    if row.content_hash != content_hash or row.status is SkuStatus.RETIRED:
        return list(rows)
    failed = replace(row, status=SkuStatus.FAILED, reason=reason)
    return _with(rows, _with_photos(failed, photos))


def _row(
    row: IndexRow | None,
    found: SkuListing,
    card: Sku | str | None,
    *,
    now: datetime,
    settings: CatalogSettings,
) -> IndexRow:
    """The row of ``found``, settled and different from ``row``."""
    shown = card if isinstance(card, Sku) else default_card(found.sku)
    if row is not None and not isinstance(card, Sku):
        # A wrong card, or none read: what was known of the product is better than defaults.
        shown = replace(
            shown,
            collection=row.collection,
            name=row.name,
            class_noun=row.class_noun,
            category=row.category,
        )
    learned_hash = row.learned_hash if row is not None else ""
    status, reason = SkuStatus.CHANGED if learned_hash else SkuStatus.NEW, ""
    if learned_hash == found.content_hash:
        status = SkuStatus.LEARNED
    elif isinstance(card, str):
        status, reason = SkuStatus.FAILED, card
    elif len(found.photos) < settings.min_photos:
        status, reason = (
            SkuStatus.FAILED,
            too_few(found, len(found.photos), settings.min_photos, found.refused),
        )
    return IndexRow(
        sku=found.sku,
        collection=shown.collection,
        name=shown.name,
        class_noun=shown.class_noun,
        category=shown.category,
        content_hash=found.content_hash,
        learned_hash=learned_hash,
        photo_count=len(found.photos),
        bytes=min(sum(photo.size_bytes for photo in found.photos), _MOST_BYTES),
        first_seen_utc=row.first_seen_utc if row is not None else now,
        newest_modified_utc=found.newest_modified_utc,
        status=status,
        reason=reason,
        learned_version=row.learned_version if row is not None else "",
        learned_utc=row.learned_utc if row is not None else None,
    )


def _vanished(rows: Iterable[IndexRow], listing: ListingResult) -> list[str]:
    """SKUs in use whose folder is gone; one that merely could not be read is not gone."""
    there = {found.sku for found in listing.listings}
    there |= {file.key.partition("/")[0] for file in listing.refused}
    return sorted(
        row.sku for row in rows if row.status is not SkuStatus.RETIRED and row.sku not in there
    )


def _renamed(
    known: Mapping[str, IndexRow], listing: ListingResult, vanished: Sequence[str]
) -> dict[str, str]:
    """New SKU -> the SKU, now gone, whose photos and card it has byte for byte."""
    gone = {
        row.content_hash: row.sku
        for row in known.values()
        if row.status is SkuStatus.RETIRED or row.sku in vanished
    }
    return {
        found.sku: gone[found.content_hash]
        for found in listing.listings
        if found.photos and found.sku not in known and found.content_hash in gone
    }


def _refuse_mass_retirement(
    known: Mapping[str, IndexRow],
    listing: ListingResult,
    vanished: Iterable[str],
    settings: CatalogSettings,
) -> None:
    """Stop before an unmounted share or a wrong root empties the catalog."""
    limit = settings.retire_fraction_limit
    in_use = {row.sku for row in known.values() if row.status is not SkuStatus.RETIRED}
    emptied = {
        found.sku
        for found in listing.listings
        if not found.photos and found.sku in known and known[found.sku].photo_count
    }
    lost = sorted({*vanished, *(emptied & in_use)})
    if not lost or limit >= 1:
        return
    too_many = len(in_use) >= _FEWEST_FOR_FRACTION and len(lost) > limit * len(in_use)
    if len(lost) < len(in_use) and not too_many:
        return
    named = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
    expected = f"to lose at most {limit:.0%} at once" if too_many else "never to lose all at once"
    raise EmptyListingError(
        f"{len(lost)} of {len(in_use)} known SKUs have no photos any more ({named}) and "
        f"{len(listing.listings)} folders are listed; expected {expected}; nothing was "
        "changed: mount the share or correct root in catalogs.yaml, or, when they are meant to "
        "go, retire them by name (`catalog-pipeline retire SKU...`) or set "
        "retire_fraction_limit: 1 for one refresh"
    )


def _with_photos(row: IndexRow, photos: Sequence[PhotoUse]) -> IndexRow:
    """``row`` with what became of its photos; as it is where none was read."""
    if not photos:
        return row
    return replace(
        row,
        photos_used=sum(not use.reason for use in photos),
        left_out={use.key: use.reason for use in photos if use.reason},
    )


def _find(rows: Sequence[IndexRow], sku: str) -> IndexRow:
    for row in rows:
        if row.sku == sku:
            return row
    raise CatalogError(f"SKU {sku!r} is not in the catalog index; refresh the index first")


def _with(rows: Sequence[IndexRow], changed: IndexRow) -> list[IndexRow]:
    return [changed if row.sku == changed.sku else row for row in rows]
