"""Where an import finds photos and where it writes products: folders or a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from catalog_pipeline.catalog.feeds.photos import (
    BucketPhotoFinder,
    LocalPhotoFinder,
    PhotoFinder,
    key_in_bucket,
)
from catalog_pipeline.catalog.local_folders import LocalProductFolders
from catalog_pipeline.catalog.product_folders import ProductFolders
from catalog_pipeline.catalog.s3_folders import S3ProductFolders
from catalog_pipeline.errors import CatalogError, ConfigurationError
from catalog_pipeline.workflows.home import Home


@dataclass(frozen=True)
class FeedSource:
    """A feed and how to read it.

    ``photos`` is the folder that paths in it are relative to, ``s3://bucket/prefix`` or a
    folder on this machine; empty: the feed's folder, or of a bucket its root. ``columns``
    maps a field to the column that has it.
    """

    path: Path
    photos: str = ""
    columns: Mapping[str, str] | None = None


def open_places(home: Home, source: FeedSource) -> tuple[ProductFolders, PhotoFinder]:
    """Where products are written, and where the photos of ``source`` are.

    Raises:
        ConfigurationError: ``source.photos`` is no place from which this catalog takes photos.
        CatalogError: there is no watched folder, or no folder of photos.
    """
    catalog, settings = home.settings.catalog, home.settings
    in_bucket = source.photos.startswith("s3://")
    local_photos = Path(source.photos or source.path.parent)
    if catalog.s3 is None:
        if in_bucket:
            raise ConfigurationError(
                f"--photos {source.photos}: the catalog is a folder, {settings.catalog_root}; "
                "expected a folder of photos; name one, or set s3 in catalogs.yaml"
            )
        make_root = settings.catalog_root.is_relative_to(settings.home)
        folders = LocalProductFolders(settings.catalog_root, make_root=make_root)
        return folders, LocalPhotoFinder(_existing(local_photos))
    if source.photos and not in_bucket:
        return S3ProductFolders(catalog.s3), LocalPhotoFinder(_existing(local_photos))
    root = ""
    if source.photos.rstrip("/") != f"s3://{catalog.s3.bucket}" and in_bucket:
        inside = key_in_bucket(source.photos, catalog.s3)
        if inside is None:
            raise ConfigurationError(
                f"--photos {source.photos}: the catalog is in the bucket {catalog.s3.bucket}; "
                "expected a prefix of it, or a folder on this machine; name one"
            )
        root = inside
    bucket = S3ProductFolders(catalog.s3)
    return bucket, BucketPhotoFinder(catalog.s3, bucket.list_folder, root)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise CatalogError(
            f"no folder {folder} to take photos from; expected the folder that the feed's paths "
            "are relative to; name it with --photos"
        )
    return folder
