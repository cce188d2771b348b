"""One SKU's photos: read, decoded, judged one by one; the usable ones kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from catalog_pipeline.catalog.card import default_card, parse_card
from catalog_pipeline.catalog.decoding import RefusedPhotoError, decode_photo
from catalog_pipeline.catalog.keys import shown
from catalog_pipeline.catalog.sources import PhotoSource
from catalog_pipeline.errors import PhotoSetError
from catalog_pipeline.records import Photo, PhotoRef, PhotoSet, RefusedFile, Sku, SkuListing
from catalog_pipeline.settings import CatalogSettings


def load_photo_set(source: PhotoSource, listing: SkuListing, settings: CatalogSettings) -> PhotoSet:
    """Decode the photos of ``listing``; the same listing gives the same set.

    At most ``max_photos`` are kept, evenly spaced by name so that a turntable series
    keeps all its sides; a photo that is refused is replaced by the next one left out.

    Raises:
        PhotoSetError: fewer than ``min_photos`` usable photos (names each refused file
            and its reason), or a file changed since it was listed.
        ConfigurationError: the card is wrong.
        CatalogError: the source cannot be read.
    """
    sku = load_card(source, listing)
    photos: dict[str, Photo] = {}
    refused: list[RefusedFile] = []
    for ref in _evenly_first(listing.photos, settings.max_photos):
        if len(photos) == settings.max_photos:
            refused.append(RefusedFile(ref.key, _left_out(listing, settings)))
            continue
        try:
            photo = _load_photo(source, ref, settings)
            twin = photos.setdefault(photo.sha256, photo)
            if twin is not photo:
                raise RefusedPhotoError(f"has the same bytes as {shown(twin.key)}; delete one")
        except RefusedPhotoError as error:
            refused.append(RefusedFile(ref.key, str(error)))
    refused.sort(key=lambda file: file.key)
    if len(photos) < settings.min_photos:
        raise PhotoSetError(too_few(listing, len(photos), settings.min_photos, refused))
    return PhotoSet(
        sku=sku,
        content_hash=listing.content_hash,
        photos=tuple(sorted(photos.values(), key=lambda photo: photo.key)),
        refused=tuple(refused),
    )


def load_card(source: PhotoSource, listing: SkuListing) -> Sku:
    """The SKU's card, every gap filled; defaults where there is none.

    Raises:
        ConfigurationError: the card is wrong; names the file and the key.
        PhotoSetError: the card is gone since it was listed.
        CatalogError: the source cannot be read.
    """
    key = listing.card_key
    if key is None:
        return default_card(listing.sku)
    return parse_card(listing.sku, key, source.read(key))


def too_few(
    listing: SkuListing, usable: int, min_photos: int, refused: Sequence[RefusedFile] = ()
) -> str:
    """What is said of a set that cannot be learned."""
    head = (
        f"{listing.sku}: {usable} usable photos of {len(listing.photos)} listed; expected at "
        f"least {min_photos}; add .jpg, .png or .webp files directly to the SKU's folder"
    )
    reasons = "".join(f"\n  {shown(file.key)} {file.reason}" for file in refused)
    return head + reasons


def _load_photo(source: PhotoSource, ref: PhotoRef, settings: CatalogSettings) -> Photo:
    if ref.size_bytes > settings.max_bytes:
        raise RefusedPhotoError(
            f"has {ref.size_bytes:,} bytes; expected at most {settings.max_bytes:,}; reduce it"
        )
    data = source.read(ref.key)
    if len(data) != ref.size_bytes or source.etag(ref.key) != ref.etag:
        raise PhotoSetError(
            f"{shown(ref.key)} changed while it was read (listed with {ref.size_bytes:,} bytes, "
            f"read {len(data):,}); try again once the upload has ended"
        )
    decoded = decode_photo(data, settings)
    return Photo(
        key=ref.key,
        sha256=hashlib.sha256(data).hexdigest(),
        pixels=decoded.pixels,
        mask=decoded.mask,
    )


def _evenly_first(refs: Sequence[PhotoRef], count: int) -> list[PhotoRef]:
    """``refs`` in the order of preference: ``count`` evenly spaced ones, then the rest."""
    if len(refs) <= count:
        return list(refs)
    last = len(refs) - 1
    picked = {round(place * last / max(1, count - 1)) for place in range(count)}
    first = [ref for place, ref in enumerate(refs) if place in picked]
    return first + [ref for place, ref in enumerate(refs) if place not in picked]


def _left_out(listing: SkuListing, settings: CatalogSettings) -> str:
    return (
        f"is left out: the folder has {len(listing.photos)} photos and {settings.max_photos}, "
        "evenly spaced by name, are used (max_photos)"
    )
