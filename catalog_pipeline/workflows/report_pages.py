"""What people are shown: product photos, where a page is put, where to look at what is stored."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from catalog_pipeline.catalog.decoding import RefusedPhotoError, decode_photo
from catalog_pipeline.errors import CatalogError
from catalog_pipeline.records import Pixels, SkuListing
from catalog_pipeline.stores.keys import PAGES_PREFIX
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.home import Home


def write_page(home: Home, name: str, data: bytes) -> Path:
    """Put ``reports/<name>`` under the local home, and in the store where that is another place.

    Atomic; replaces an earlier page of that name.
    """
    key = f"{PAGES_PREFIX}{name}"
    for objects in stores_of_pages(home):
        objects.put(key, data)
    return home.settings.home / key


def where_to_look(objects: ObjectStore, key: str) -> str:
    """Where a person finds what is stored under ``key``, and how to open what is encrypted."""
    place = objects.uri(key)
    if not objects.is_sealed(key):
        return place
    command = f"catalog-pipeline export-objects {shlex.quote(key)} --out DIR"
    return f"{place} (encrypted: `{command}` writes a copy that opens)"


def stores_of_pages(home: Home) -> list[ObjectStore]:
    """The local home, and the store where that is another place."""
    local = LocalObjectStore(home.settings.home)
    same = home.objects.path(PAGES_PREFIX + "x") == local.path(PAGES_PREFIX + "x")
    return [local] if same else [local, home.objects]


def each_with_photos(
    home: Home, skus: Collection[str], per_sku: int
) -> Iterator[tuple[str, list[Pixels]]]:
    """Each SKU with its first usable photos, ``per_sku`` at most; none for one that has left."""
    found = listed_products(home, skus)
    for sku in skus:
        yield sku, first_photos(home, found[sku], per_sku) if sku in found else []


def listed_products(home: Home, skus: Collection[str]) -> dict[str, SkuListing]:
    """Those of ``skus`` that the catalog still has.

    Products leave the catalog while their pictures stay, so a missing folder, or
    a missing catalog, is no error here: a page shows the product without a photo.
    """
    if not skus:
        return {}
    try:
        listings = home.photo_source.list_skus(only=list(skus), read=False).listings
    except CatalogError:
        return {}
    return {listing.sku: listing for listing in listings}


def first_photos(home: Home, listing: SkuListing, count: int) -> list[Pixels]:
    """The first usable photos of a product, ``count`` at most."""
    photos: list[Pixels] = []
    for ref in listing.photos:
        if len(photos) == count:
            break
        pixels = readable_photo(home, ref.key)
        if pixels is not None:
            photos.append(pixels)
    return photos


def readable_photo(home: Home, key: str) -> Pixels | None:
    """The photo ``key`` as learning sees it; ``None`` where it is gone or refused.

    Validation names refused files; a page shows the ones that work.
    """
    try:
        return decode_photo(home.photo_source.read(key), home.settings.catalog).pixels
    except (RefusedPhotoError, CatalogError):
        return None
