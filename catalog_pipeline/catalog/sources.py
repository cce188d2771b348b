"""Where the photos are: a folder or a bucket behind one protocol."""

from __future__ import annotations

from catalog_pipeline.catalog.listing import (
    NOTHING_KNOWN,
    KnownDigests,
    ListingResult,
    PhotoSource,
)
from catalog_pipeline.catalog.local import LocalPhotoSource
from catalog_pipeline.catalog.s3 import S3PhotoSource
from catalog_pipeline.settings import Settings

__all__ = [
    "NOTHING_KNOWN",
    "KnownDigests",
    "ListingResult",
    "LocalPhotoSource",
    "PhotoSource",
    "S3PhotoSource",
    "open_photo_source",
]


def open_photo_source(settings: Settings) -> PhotoSource:
    """The catalog that ``catalogs.yaml`` names; the bucket when there is one.

    Raises:
        ConfigurationError: the bucket cannot be used as it is configured.
    """
    catalog = settings.catalog
    if catalog.s3 is not None:
        return S3PhotoSource(catalog.s3, max_bytes=catalog.max_bytes)
    return LocalPhotoSource(settings.catalog_root, max_bytes=catalog.max_bytes)
