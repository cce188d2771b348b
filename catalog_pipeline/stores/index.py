"""The catalog index: one Parquet object, changed by read-modify-write."""

from __future__ import annotations

from collections.abc import Callable

from catalog_pipeline.errors import ObjectNotFoundError
from catalog_pipeline.records import IndexRow
from catalog_pipeline.stores.objects import ObjectStore, until_won
from catalog_pipeline.stores.schemas import decode_index, encode_index

INDEX_KEY = "catalog/index.parquet"


class IndexStore:
    """``catalog/index.parquet``; grain: one row per SKU ever seen.

    Atomic: readers see all of one update or none of it. Concurrent updates are
    applied one after the other, none is lost. A crash leaves the index as it was. What
    was read is decoded once for as long as the object's version stays the same.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: tuple[str, list[IndexRow]] | None = None

    def read(self) -> list[IndexRow]:
        """Every row, sorted by SKU; ``[]`` before the first update.

        Raises:
            IntegrityError: the index is not a Parquet file of this schema.
        """
        return self._read()[0]

    def update(self, change: Callable[[list[IndexRow]], list[IndexRow]]) -> list[IndexRow]:
        """Replace the rows by ``change(rows)``; returns them as stored, sorted by SKU.

        ``change`` gets a fresh list, may be called several times when other
        writers are faster, and must have no effects of its own. Idempotent: rows
        that come back unchanged are not written.

        Raises:
            StoreError: ``change`` returned a SKU twice or a value out of range.
            ConflictError: other writers won 64 times in a row.
        """

        def attempt() -> list[IndexRow]:
            rows, version = self._read()
            changed = sorted(change(list(rows)), key=lambda row: row.sku)
            if version is None or changed != rows:
                self._objects.compare_and_swap(INDEX_KEY, encode_index(changed), version)
            return changed

        return until_won(attempt, INDEX_KEY)

    def _read(self) -> tuple[list[IndexRow], str | None]:
        try:
            stored = self._objects.read(INDEX_KEY)
        except ObjectNotFoundError:
            return [], None
        known = self._known
        if known is None or known[0] != stored.version:
            known = stored.version, decode_index(stored.data, self._objects.uri(INDEX_KEY))
            self._known = known
        return list(known[1]), stored.version
