"""List the catalog and bring ``catalog/index.parquet`` up to date."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from catalog_pipeline.catalog.card import ReadNoun
from catalog_pipeline.catalog.file_kinds import printable
from catalog_pipeline.catalog.index import is_settled, merge_index, needs_card
from catalog_pipeline.catalog.listing import KnownDigests, ListingResult
from catalog_pipeline.catalog.photo_set import load_card
from catalog_pipeline.catalog.shared_photos import shared_photo_warnings
from catalog_pipeline.catalog.sources import PhotoSource
from catalog_pipeline.errors import (
    CatalogError,
    ConfigurationError,
    IntegrityError,
    ObjectNotFoundError,
)
from catalog_pipeline.records import IndexReport, IndexRow, RefusedFile, Sku, SkuListing
from catalog_pipeline.settings import CatalogSettings
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.card_words import noun_warnings
from catalog_pipeline.workflows.catalog.first_seen import date_by_first_seen
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress

DIGESTS_KEY = "catalog/digests.json"
"""SHA-256 of every listed file under its etag: only files that changed are read again."""

_DIGESTS_SCHEMA = 1


def refresh_index(home: Home, *, now: datetime | None = None, dry_run: bool = False) -> IndexReport:
    """List the catalog once and merge the listing into the index.

    Idempotent: while no content changes, nothing is written. Atomic: readers see the
    old index or the new one; concurrent refreshes and learning lose nothing. A crash
    before the end loses at most digests, which are then taken again.

    Args:
        home: its settings say where and what to list.
        now: the time against which sets settle, with a time zone; default the present.
        dry_run: report what a refresh would find and write nothing; a set whose files are dated
            after the present then counts as still moving.

    Raises:
        EmptyListingError: the listing would retire everything, or too much.
        CatalogError: the catalog cannot be listed.
        StoreError: the index cannot be read or written.
    """
    moment = now or datetime.now(UTC)
    source = home.photo_source
    known = read_digests(home.objects)
    listing = source.list_skus(known)
    if not dry_run:
        listing = date_by_first_seen(home.objects, listing, moment)
    merge = _Merge(
        source, listing, now=moment, settings=home.settings.catalog, read_noun=home.words.noun
    )
    rows = home.index.read()
    if merge(rows) != rows and not dry_run:
        home.index.update(merge)
    if listing.digests != known and not dry_run:
        _write_digests(home.objects, listing.digests)
    if not dry_run:
        home.words.keep()
    warnings = (*noun_warnings(merge.cards, home.words), *shared_photo_warnings(listing.digests))
    return replace(merge.report(), warnings=warnings)


def refresh_settled(home: Home, *, progress: ProgressSink | None = None) -> IndexReport:
    """Refresh the index, and again once what is still being uploaded has been still long enough.

    Every second a second of the wait is counted off. A folder in which something changes
    meanwhile is waited for anew.
    """
    sink = progress or SilentProgress()
    report = refresh_index(home)
    while report.settled_utc is not None:
        task = f"waiting for {', '.join(report.unsettled)} to settle"
        left = (report.settled_utc - datetime.now(UTC)).total_seconds()
        sink.start(task, max(1, math.ceil(left)))
        while (left := (report.settled_utc - datetime.now(UTC)).total_seconds()) > 0:
            time.sleep(min(1.0, left))
            sink.advance(task)
        sink.finish(task)
        report = refresh_index(home)
    return report


class _Merge:
    """The change of the index by one listing; reads each card once, however often it is asked."""

    def __init__(
        self,
        source: PhotoSource,
        listing: ListingResult,
        *,
        now: datetime,
        settings: CatalogSettings,
        read_noun: ReadNoun,
    ) -> None:
        self._source = source
        self._listing = listing
        self._now = now
        self._settings = settings
        self._read_noun = read_noun
        self._cards: dict[str, Sku | str] = {}
        self._unreadable: dict[str, RefusedFile] = {}
        self._report: IndexReport | None = None

    def __call__(self, rows: Sequence[IndexRow]) -> list[IndexRow]:
        """The rows after the merge."""
        known = {row.sku: row for row in rows}
        for found in self._listing.listings:
            if needs_card(known.get(found.sku), found) and is_settled(
                found, now=self._now, settings=self._settings
            ):
                self._read_card(found)
        self._report = merge_index(
            rows,
            self._readable_listing(),
            now=self._now,
            settings=self._settings,
            cards=self._cards,
        )
        return list(self._report.rows)

    @property
    def cards(self) -> list[Sku]:
        """The cards that were read and are right."""
        return [card for card in self._cards.values() if isinstance(card, Sku)]

    def report(self) -> IndexReport:
        """What the last merge found."""
        if self._report is None:
            raise CatalogError("the index was not merged; merge before reporting")
        return self._report

    def _read_card(self, found: SkuListing) -> None:
        if found.sku in self._cards or found.sku in self._unreadable:
            return
        try:
            self._cards[found.sku] = load_card(self._source, found, self._read_noun)
        except ConfigurationError as error:
            self._cards[found.sku] = str(error)
        except CatalogError as error:
            key = printable(found.card_key or found.sku)
            self._unreadable[found.sku] = RefusedFile(key, str(error))

    def _readable_listing(self) -> ListingResult:
        """The listing without the SKUs whose card could not be read: these stay as known."""
        if not self._unreadable:
            return self._listing
        return replace(
            self._listing,
            listings=tuple(f for f in self._listing.listings if f.sku not in self._unreadable),
            refused=(*self._listing.refused, *self._unreadable.values()),
        )


def read_digests(objects: ObjectStore) -> KnownDigests:
    """The digests that the last refresh has taken.

    Raises:
        IntegrityError: the object is not what a refresh writes.
    """
    try:
        data = objects.read(DIGESTS_KEY).data
    except ObjectNotFoundError:
        return {}
    try:
        content = json.loads(data)
        if content["schema_version"] != _DIGESTS_SCHEMA:
            return {}
        return {key: (etag, sha256) for key, (etag, sha256) in content["digests"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{objects.uri(DIGESTS_KEY)} is not a digest cache ({error!r}); expected the JSON that "
            "a refresh writes; delete it, the next refresh takes all digests anew"
        ) from error


def _write_digests(objects: ObjectStore, digests: KnownDigests) -> None:
    content = {"schema_version": _DIGESTS_SCHEMA, "digests": dict(digests)}
    objects.put(DIGESTS_KEY, json.dumps(content).encode())
