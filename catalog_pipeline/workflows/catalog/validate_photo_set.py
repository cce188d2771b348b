"""Validate one SKU's photos, as learning will see them."""

from __future__ import annotations

from datetime import UTC, datetime

from catalog_pipeline.catalog.index import is_settled
from catalog_pipeline.catalog.keys import validate_sku
from catalog_pipeline.catalog.photo_set import load_photo_set
from catalog_pipeline.catalog.sources import open_photo_source
from catalog_pipeline.errors import CatalogError, PhotoSetError
from catalog_pipeline.records import PhotoSet, SkuListing
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home


def validate_photo_set(settings: Settings, sku: str, *, now: datetime | None = None) -> PhotoSet:
    """List and decode the photos of ``sku`` as they are now; writes nothing.

    Args:
        settings: the settings; ``catalog`` says where the photos are and what is usable.
        sku: the SKU's folder name.
        now: the time against which the set settles, with a time zone; default the present.

    Raises:
        InvalidSkuError: ``sku`` cannot be a SKU.
        PhotoSetError: too few usable photos (names each refused file and its reason), a
            file that changed while it was read, or a set that has not settled yet.
        ConfigurationError: the card is wrong.
        CatalogError: there is no such folder, or it cannot be read.
    """
    source = open_photo_source(settings)
    moment = now or datetime.now(UTC)
    result = source.list_skus(only=[validate_sku(sku)])
    if not result.listings:
        reasons = "".join(f"; {file.key!r} {file.reason}" for file in result.refused)
        raise CatalogError(
            f"no usable folder {sku!r} in {source.where}{reasons}; expected one with photos; "
            "check the name, upper and lower case count"
        )
    listing = result.listings[0]
    if not is_settled(listing, now=moment, settings=settings.catalog):
        _require_known(settings, listing)
    return load_photo_set(source, listing, settings.catalog)


def _require_known(settings: Settings, listing: SkuListing) -> None:
    """A set that was touched is fine as long as the index knows this very content."""
    rows = open_home(settings).index.read()
    if any(r.sku == listing.sku and r.content_hash == listing.content_hash for r in rows):
        return
    raise PhotoSetError(
        f"{listing.sku} is still being uploaded: something in its folder changed at "
        f"{listing.newest_modified_utc:%Y-%m-%d %H:%M:%S} UTC; try again once it has been still "
        f"for {settings.catalog.settle_seconds:g} s (settle_seconds)"
    )
