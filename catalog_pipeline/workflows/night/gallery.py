"""Write the page of a night: every published picture, for people to look through."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from catalog_pipeline.catalog.decoding import RefusedPhotoError, decode_photo
from catalog_pipeline.catalog.photo_set import load_card
from catalog_pipeline.errors import CatalogError, CatalogPipelineError, GenerationError
from catalog_pipeline.records import (
    ArchiveRow,
    PhotoRef,
    Pixels,
    SkuListing,
    collections_of,
    names_photo,
)
from catalog_pipeline.stores.picture_quarantine import FAILED
from catalog_pipeline.workflows.catalog.refresh_index import read_digests
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.shown_products import faults_in_words, shown_products
from catalog_pipeline.workflows.report_pages import write_page


def shown_days(home: Home) -> list[date]:
    """Every night that has a picture to show, published or held back, oldest first."""
    published, quarantine = home.archive.days(), home.archive.quarantine
    held = (
        day
        for day in quarantine.days()
        if day not in published and any(not row.superseded for row in quarantine.read_day(day))
    )
    return sorted({*published, *held})


def write_gallery(home: Home, day: date, *, language: str | None = None) -> Path:
    """Write ``reports/gallery-<day>.html`` under the home and return its path.

    The page holds every published picture of the day, superseded ones included (hidden at
    first), and, folded away, those in quarantine with the reason. Written anew each time,
    atomically; where state lives in a bucket, the page is stored there as well. A picture's own
    photos stand beside it while they are in the catalog, and settings and cards let photos
    stand in scenes. ``language`` is that of ``evaluation.yaml`` by default.

    Raises:
        GenerationError: nothing was published or held back for this day.
        IntegrityError: a picture does not match its hash.
    """
    from catalog_pipeline.evaluation.contact_sheet import decode_png
    from catalog_pipeline.evaluation.gallery import GalleryImage, render_gallery
    from catalog_pipeline.evaluation.page_texts import PageTexts

    rows = home.archive.read_day(day)
    held = [row for row in home.archive.quarantine.read_day(day) if not row.superseded]
    if not rows and not held:
        known = ", ".join(night.isoformat() for night in shown_days(home)[-5:]) or "none"
        raise GenerationError(
            f"no picture of {day.isoformat()} is published or held back; latest nights: {known}; "
            f"run `catalog-pipeline generate --day {day.isoformat()}` first"
        )
    texts = PageTexts(language or home.settings.evaluation.language)
    good = [(row, "") for row in rows if row.verdict != FAILED]
    images = []
    for row, reason in (*good, *((row, faults_in_words(row, texts)) for row in held)):
        png = home.archive.read_image(row.path)
        images.append(GalleryImage(row, decode_png(png), reason, home.marks.packet(png, row)))
    shown = [image.row for image in images]
    products = shown_products(home, shown, texts.language)
    photos = _anchoring_photos(home, shown)
    page = render_gallery(day, images, products, photos, language=texts.language)
    return write_page(home, f"gallery-{day.isoformat()}.html", page.encode())


def _anchoring_photos(home: Home, rows: Sequence[ArchiveRow]) -> dict[str, Pixels]:
    """SHA-256 -> photo, of those in ``rows`` that are still there and may stand in scenes."""
    allows = home.settings.generation.allows_photos
    allowed = [row for row in rows if all(map(allows, collections_of(row)))]
    wanted = {sha256 for row in allowed for sha256 in row.photos.values()}
    skus = sorted({sku for row in allowed for sku in row.photos})
    if not skus:
        return {}
    source = home.photo_source
    try:
        known = read_digests(home.objects)
        listings = source.list_skus(only=skus, read=False).listings
    except CatalogPipelineError:
        return {}  # Products leave the catalog while their pictures stay.
    photos = {}
    for ref in (ref for listing in listings for ref in _usable_photos(home, listing)):
        etag, sha256 = known.get(ref.key, ("", ""))
        if etag == ref.etag and sha256 not in wanted:
            continue
        try:
            data = source.read(ref.key)
            if (digest := hashlib.sha256(data).hexdigest()) in wanted:
                photos[digest] = decode_photo(data, home.settings.catalog).pixels
        except (RefusedPhotoError, CatalogError):
            continue  # A page shows the photos that can be read.
    return photos


def _usable_photos(home: Home, listing: SkuListing) -> list[PhotoRef]:
    """The photos that the product's card lets stand in scenes; none where it is wrong."""
    try:
        names = load_card(home.photo_source, listing, home.words.noun).anchor_photos
    except CatalogPipelineError:
        return []
    return [
        ref
        for ref in listing.photos
        if names is None or any(names_photo(name, ref.key) for name in names)
    ]
