"""What the pages for people share: product photos to show, and where a page is put."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from catalog_pipeline.catalog.decoding import RefusedPhotoError, decode_photo
from catalog_pipeline.catalog.sources import PhotoSource, open_photo_source
from catalog_pipeline.errors import CatalogError
from catalog_pipeline.records import Pixels, SkuListing
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.workflows.home import Home


def write_page(settings: Settings, home: Home, name: str, data: bytes) -> Path:
    """Put ``reports/<name>`` under the local home, and in the bucket where there is one.

    Atomic; replaces an earlier page of that name.
    """
    key = f"reports/{name}"
    LocalObjectStore(settings.home).put(key, data)
    if settings.archive.s3 is not None:
        home.objects.put(key, data)
    return settings.home / key


def photos_to_show(
    settings: Settings, skus: Collection[str], per_sku: int
) -> dict[str, list[Pixels]]:
    """:func:`each_with_photos` at once."""
    return dict(each_with_photos(settings, skus, per_sku))


def each_with_photos(
    settings: Settings, skus: Collection[str], per_sku: int
) -> Iterator[tuple[str, list[Pixels]]]:
    """Each SKU with its first usable photos, ``per_sku`` at most; none for one that has left.

    Products leave the catalog while their pictures stay, so a missing folder, or
    a missing catalog, is no error here: a page shows the product without a photo.
    """
    source = open_photo_source(settings)
    try:
        listings = source.list_skus(only=list(skus)).listings
    except CatalogError:
        listings = ()
    found = {listing.sku: listing for listing in listings}
    for sku in skus:
        yield sku, _usable(settings, source, found[sku], per_sku) if sku in found else []


def _usable(
    settings: Settings, source: PhotoSource, listing: SkuListing, count: int
) -> list[Pixels]:
    photos: list[Pixels] = []
    for ref in listing.photos:
        if len(photos) == count:
            break
        try:
            photos.append(decode_photo(source.read(ref.key), settings.catalog).pixels)
        except (RefusedPhotoError, CatalogError):
            continue  # Validation names refused files; a page shows the ones that work.
    return photos
