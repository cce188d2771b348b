"""Opens the one object store that a run's state lives in.

Idempotency: ``put_if_absent`` and ``compare_and_swap`` are the only ways in which
two runs meet; whoever loses reads again. See :mod:`catalog_pipeline.stores.contract`
for the promises, :mod:`catalog_pipeline.stores.local` and
:mod:`catalog_pipeline.stores.s3` for how each keeps them.
"""

from __future__ import annotations

from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.contract import ObjectInfo, ObjectStore, StoredObject
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.s3 import S3ObjectStore

__all__ = [
    "LocalObjectStore",
    "ObjectInfo",
    "ObjectStore",
    "S3ObjectStore",
    "StoredObject",
    "open_object_store",
]


def open_object_store(settings: Settings) -> ObjectStore:
    """The bucket of ``archive.yaml: s3`` when it is set, else the folder ``settings.home``.

    Opening touches neither; the first call does.

    Raises:
        ConfigurationError: a bucket is set and boto3 is not installed.
    """
    if settings.archive.s3 is not None:
        return S3ObjectStore(settings.archive.s3)
    return LocalObjectStore(settings.home)
