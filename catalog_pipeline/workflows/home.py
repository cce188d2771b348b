"""One home: its settings, its stores and its photos, opened once and passed to every workflow."""

from __future__ import annotations

from functools import cached_property

from catalog_pipeline.catalog.sources import PhotoSource, open_photo_source
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore, collection_names
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.index import IndexStore
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.s3 import S3ObjectStore


class Home:
    """Everything under ``settings.home``, or in the bucket of ``archive.yaml: s3``.

    A command or a step opens one and hands it down. Stores and photo source are opened
    when they are first asked for, once each; asking for them may raise
    :class:`ConfigurationError`, as where a bucket is set and boto3 is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def objects(self) -> ObjectStore:
        """Where all state is kept: a bucket where one is set, else the folder of the home."""
        bucket = self.settings.archive.s3
        return LocalObjectStore(self.settings.home) if bucket is None else S3ObjectStore(bucket)

    @property
    def where(self) -> str:
        """The folder or the bucket, for people."""
        return self.objects.uri("catalog").removesuffix("/catalog")

    @cached_property
    def index(self) -> IndexStore:
        """The catalog index."""
        return IndexStore(self.objects)

    @cached_property
    def archive(self) -> ImageArchive:
        """Pictures and manifests."""
        return ImageArchive(self.objects)

    @cached_property
    def photo_source(self) -> PhotoSource:
        """The product folders that ``catalogs.yaml`` names."""
        return open_photo_source(self.settings)

    def adapters(self, collection: str) -> AdapterStore:
        """The versions of ``collection``; it need not exist yet."""
        return AdapterStore(self.objects, collection)

    def collections(self) -> list[str]:
        """Every collection that has anything stored, sorted."""
        return collection_names(self.objects)


def open_home(settings: Settings) -> Home:
    """The home of ``settings``; opens, reads and writes nothing yet."""
    return Home(settings)
