"""Validate one SKU's photos, as learning will see them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from catalog_pipeline.catalog.index import is_settled, settled_at
from catalog_pipeline.catalog.listing import KnownDigests
from catalog_pipeline.catalog.photo_set import list_one, load_photo_set
from catalog_pipeline.errors import CatalogPipelineError, UnsettledError
from catalog_pipeline.records import PhotoSet
from catalog_pipeline.workflows.catalog.refresh_index import read_digests
from catalog_pipeline.workflows.home import Home


def validate_photo_set(
    home: Home, sku: str, *, now: datetime | None = None, spare: int = 0
) -> PhotoSet:
    """List and decode the photos of ``sku`` as they are now; writes nothing.

    Each photo is read once.

    Args:
        home: its settings say where the photos are and what is usable.
        sku: the SKU's folder name.
        spare: how many photos beyond ``max_photos`` are decoded besides, to choose from.
        now: the time against which the set settles, with a time zone; default the present.

    Raises:
        InvalidSkuError: ``sku`` cannot be a SKU.
        UnsettledError: the set is still being uploaded.
        PhotoSetError: too few usable photos (names each refused file and its reason), or a
            file that changed while it was read.
        ConfigurationError: the card is wrong.
        CatalogError: there is no such folder, or it cannot be read.
    """
    source, catalog = home.photo_source, home.settings.catalog
    listing = list_one(source, sku, read=False)

    def known() -> KnownDigests:
        return read_digests(home.objects)

    now = now or datetime.now(UTC)
    if is_settled(listing, now=now, settings=catalog):
        return load_photo_set(source, listing, catalog, known, home.words.noun, spare=spare)
    changed = listing.newest_modified_utc
    left = (settled_at(listing, catalog) - now).total_seconds()
    moving = UnsettledError(
        f"{sku} is still being uploaded: something in its folder changed at "
        f"{changed:%Y-%m-%d %H:%M:%S} UTC; a folder counts once it has been still for "
        f"{catalog.settle_seconds:g} s (settle_seconds): try again in {math.ceil(left)} s"
    )
    try:
        photo_set = load_photo_set(source, listing, catalog, known, home.words.noun, spare=spare)
    except CatalogPipelineError as error:
        raise moving from error
    # A set that was touched is fine as long as the index knows this very content.
    if not any((r.sku, r.content_hash) == (sku, photo_set.content_hash) for r in home.index.read()):
        raise moving
    return photo_set
