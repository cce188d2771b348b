"""Everything stored, opened together from the settings."""

from __future__ import annotations

from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore, collection_names
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.index import IndexStore
from catalog_pipeline.stores.objects import open_object_store


class Home:
    """The stores of one home: ``settings.home``, or the bucket of ``archive.yaml: s3``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.objects = open_object_store(settings)
        self.index = IndexStore(self.objects)
        self.archive = ImageArchive(self.objects)

    def adapters(self, collection: str) -> AdapterStore:
        """The versions of ``collection``; it need not exist yet."""
        return AdapterStore(self.objects, collection)

    def collections(self) -> list[str]:
        """Every collection that has anything stored, sorted."""
        return collection_names(self.objects)


def open_home(settings: Settings) -> Home:
    """Open the stores; reads and writes nothing yet.

    Raises:
        ConfigurationError: a bucket is set and boto3 is not installed.
    """
    return Home(settings)
