"""Pictures that did not pass the quality gate: kept, marked, and not published.

One object a night, ``quarantine/dt=YYYY-MM-DD/part-0.parquet``, of the manifest's
schema; grain: one row per ``image_id``. The pictures lie where all do. Nothing of it is
under ``manifest/``, so no reader of the archive meets one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from catalog_pipeline.errors import ObjectNotFoundError, StoreError
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.keys import QUARANTINE_PREFIX, days_of, quarantine_key
from catalog_pipeline.stores.manifest import (
    PictureDigests,
    adapter_versions,
    check_days,
    check_pictures,
    column_values,
    marked,
    picture_digests,
)
from catalog_pipeline.stores.objects import ObjectStore, until_won
from catalog_pipeline.stores.schemas import decode_manifest, encode_manifest

FAILED = "failed"
"""The verdict of a row that belongs here."""


class PictureQuarantine:
    """The held back pictures of every night. Idempotency key: ``image_id``."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def read_day(self, day: date) -> list[ArchiveRow]:
        """The rows held back for ``day``, sorted by image id; ``[]`` when there are none.

        Raises:
            IntegrityError: the object is not a Parquet file of the manifest's schema.
        """
        return self._read(day)[0]

    def values(self, day: date, column: str) -> set[str]:
        """What the rows held back for ``day`` have in a text ``column``; decodes no other.

        Raises:
            IntegrityError: the object is not a Parquet file of the manifest's schema.
        """
        return column_values(self._objects, quarantine_key(day), column)

    def adapter_versions(self, day: date) -> set[str]:
        """Every adapter version that drew a product in the rows held back for ``day``.

        Raises:
            IntegrityError: the object is not a Parquet file of the manifest's schema.
        """
        return adapter_versions(self._objects, quarantine_key(day))

    def digests(self, day: date) -> list[PictureDigests]:
        """What the rows held back for ``day`` know their pictures by; decodes nothing else.

        Raises:
            IntegrityError: the object is not a Parquet file of the manifest's schema.
        """
        return picture_digests(self._objects, quarantine_key(day))

    def days(self) -> list[date]:
        """Every day that has pictures in quarantine, or has had, oldest first."""
        return days_of(self._objects.list(QUARANTINE_PREFIX), QUARANTINE_PREFIX)

    def settle_day(
        self, day: date, rows: Sequence[ArchiveRow], planned: Collection[str]
    ) -> list[ArchiveRow]:
        """Hold back the failed ones of ``rows``, and let go whose newer row has not failed.

        Of two rows of one picture the one made later counts. ``superseded`` is true for
        exactly the rows whose image id is not in ``planned``. Idempotent: when nothing
        changes nothing is written. Atomic: concurrent calls are applied one after the
        other. A kill leaves the object before or after.

        Returns:
            The rows that are held back now.

        Raises:
            StoreError: a row of another day.
            ObjectNotFoundError: a new row names a picture that is not stored.
        """
        check_days(day, rows)
        wanted = frozenset(planned)
        key = quarantine_key(day)

        def attempt() -> list[ArchiveRow]:
            before, token = self._read(day)
            held = {row.image_id: row for row in before}
            for row in rows:
                known = held.get(row.image_id)
                if known is not None and known.created_utc > row.created_utc:
                    continue
                if row.verdict == FAILED:
                    held[row.image_id] = row
                else:
                    held.pop(row.image_id, None)
            after = [
                marked(row, name not in wanted, row.reason) for name, row in sorted(held.items())
            ]
            if after != before:
                known_ids = {(row.image_id, row.path) for row in before}
                new = [row for row in after if (row.image_id, row.path) not in known_ids]
                check_pictures(self._objects, new)
                self._objects.compare_and_swap(key, encode_manifest(after), token)
            return after

        return until_won(attempt, key)

    def _read(self, day: date) -> tuple[list[ArchiveRow], str | None]:
        key = quarantine_key(day)
        try:
            stored = self._objects.read(key)
        except ObjectNotFoundError:
            return [], None
        rows, _ = decode_manifest(stored.data, self._objects.uri(key))
        strangers = [row.image_id for row in rows if row.verdict != FAILED]
        if strangers:
            raise StoreError(
                f"{self._objects.uri(key)} holds {strangers[0]!r}, whose verdict is not "
                f"{FAILED!r}; delete the object and render the night again"
            )
        return rows, stored.version
