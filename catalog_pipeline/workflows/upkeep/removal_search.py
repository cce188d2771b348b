"""The proof of a removal: every byte of the home is looked at for what the product has left."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.concept_removal import owner_of
from catalog_pipeline.stores.keys import (
    IMAGE_PREFIX,
    LEARNING_PREFIX,
    MANIFEST_PREFIX,
    PLANS_PREFIX,
    QUARANTINE_PREFIX,
    STAGING_PREFIX,
    VERSIONS_PREFIX,
)
from catalog_pipeline.stores.naming import Naming
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.schemas import values_as_text
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.report_pages import stores_of_pages

SEARCHED = (
    *("base/", "catalog/", "collections/", "reports/", "keys/"),
    *(LEARNING_PREFIX, MANIFEST_PREFIX, PLANS_PREFIX, QUARANTINE_PREFIX),
    *(STAGING_PREFIX, VERSIONS_PREFIX),
)
"""Everything but the audit log, which names the SKU for good, and the record of the removal."""

_DIGEST = re.compile(rb"(?<![0-9a-f])(?:[0-9a-f]{32}){1,2}(?![0-9a-f])")


@dataclass(frozen=True)
class Searched:
    """What a search has read, and the keys of objects that name the SKU or one of its digests."""

    objects: int
    bytes: int
    named_in: tuple[str, ...]


def search_home(
    home: Home, sku: str, digests: Collection[str], *, pictures: bool = False
) -> Searched:
    """Look for ``sku`` and ``digests``, of 32 or 64 hex digits, in every object and its key.

    Parquet files and shards are searched as they are and, since they are compressed, value by
    value too. ``pictures`` reads the PNG files of nights as well; they are named by their bytes,
    so those of the product are known to be gone without.

    Raises:
        StoreError: an object cannot be read.
    """
    naming, wanted = Naming(sku), frozenset(digests)
    count = size = 0
    named: list[str] = []
    for store, prefixes in _places(home, pictures):
        for prefix in prefixes:
            for key in store.list(prefix):
                try:
                    data = store.read(key).data
                except ObjectNotFoundError:
                    continue  # another process has just removed it
                count, size = count + 1, size + len(data)
                texts = (key.encode(), *texts_in(data, key))
                owned = any(owner_of(part) == sku for part in key.split("/"))
                if owned or any(naming.stands_in(t) or _names(t, wanted) for t in texts):
                    named.append(key)
    return Searched(count, size, tuple(named))


def _places(home: Home, pictures: bool) -> Iterator[tuple[ObjectStore, tuple[str, ...]]]:
    yield home.objects, (*SEARCHED, IMAGE_PREFIX) if pictures else SEARCHED
    local, *others = stores_of_pages(home)
    if others:  # pages are in the local home, too
        yield local, ("reports/",)


def texts_in(data: bytes, key: str) -> Iterator[bytes]:
    """Where names are looked for: ``data``, and the values of a table, which is compressed."""
    yield data
    if key.endswith((".parquet", ".arrow")):
        try:
            yield values_as_text(data).encode()
        except IntegrityError:
            return  # rotten: its bytes were looked at


def _names(data: bytes, digests: frozenset[str]) -> bool:
    return any(found.decode() in digests for found in _DIGEST.findall(data))
