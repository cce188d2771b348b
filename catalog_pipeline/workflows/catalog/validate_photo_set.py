"""Validate one SKU's photos, as learning will see them."""

from __future__ import annotations

from datetime import UTC, datetime

from catalog_pipeline.catalog.index import is_settled
from catalog_pipeline.catalog.listing import KnownDigests
from catalog_pipeline.catalog.photo_set import list_one, load_photo_set
from catalog_pipeline.errors import CatalogPipelineError, PhotoSetError
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
        PhotoSetError: too few usable photos (names each refused file and its reason), a
            file that changed while it was read, or a set that has not settled yet.
        ConfigurationError: the card is wrong.
        CatalogError: there is no such folder, or it cannot be read.
    """
    source, catalog = home.photo_source, home.settings.catalog
    listing = list_one(source, sku, read=False)

    def known() -> KnownDigests:
        return read_digests(home.objects)

    if is_settled(listing, now=now or datetime.now(UTC), settings=catalog):
        return load_photo_set(source, listing, catalog, known, spare=spare)
    moving = PhotoSetError(
        f"{sku} is still being uploaded: something in its folder changed at "
        f"{listing.newest_modified_utc:%Y-%m-%d %H:%M:%S} UTC; try again once it has been still "
        f"for {catalog.settle_seconds:g} s (settle_seconds)"
    )
    try:
        photo_set = load_photo_set(source, listing, catalog, known, spare=spare)
    except CatalogPipelineError as error:
        raise moving from error
    # A set that was touched is fine as long as the index knows this very content.
    if not any((r.sku, r.content_hash) == (sku, photo_set.content_hash) for r in home.index.read()):
        raise moving
    return photo_set
