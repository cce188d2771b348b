"""What was learned when, from which photos, under which settings; and what was refused.

One object a day, ``learning/dt=YYYY-MM-DD/part-0.parquet``; grain: one row per attempt at
learning a SKU. Rows are added, and changed only when a product is removed for good. Nothing that
learns or renders reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date

from catalog_pipeline.errors import ObjectNotFoundError
from catalog_pipeline.records import LearningRow
from catalog_pipeline.stores.keys import LEARNING_PREFIX, days_of, learning_key
from catalog_pipeline.stores.objects import ObjectStore, until_won
from catalog_pipeline.stores.schemas import decode_learning, encode_learning


class LearningLog:
    """The attempts of every day. Idempotency key: ``attempt_id``."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def add(self, row: LearningRow) -> None:
        """Add ``row`` to the day on which it ended.

        A row whose ``attempt_id`` is there already stays as it is. Atomic: concurrent calls
        are applied one after the other; a kill leaves the day before or after.

        Raises:
            StoreError: a value that does not fit its column.
        """
        key = _key_of(row)

        def attempt() -> None:
            rows, token = self._read(key)
            if all(known.attempt_id != row.attempt_id for known in rows):
                self._objects.compare_and_swap(key, encode_learning([*rows, row]), token)

        until_won(attempt, key)

    def holds(self, row: LearningRow) -> bool:
        """Whether the attempt of ``row`` is there already."""
        rows, _ = self._read(_key_of(row))
        return any(known.attempt_id == row.attempt_id for known in rows)

    def rewrite(
        self, day: date, change: Callable[[list[LearningRow]], list[LearningRow]]
    ) -> list[LearningRow]:
        """Replace the attempts of ``day`` by ``change`` of them; the rows before.

        For the removal of a product alone. Atomic; rows that stay the same are not written.
        """
        key = learning_key(day)

        def attempt() -> list[LearningRow]:
            rows, token = self._read(key)
            after = change(list(rows))
            if after != rows:
                self._objects.compare_and_swap(key, encode_learning(after), token)
            return rows

        return until_won(attempt, key)

    def days(self) -> list[date]:
        """Every day on which something was learned or refused, oldest first."""
        return days_of(self._objects.list(LEARNING_PREFIX), LEARNING_PREFIX)

    def read_day(self, day: date) -> list[LearningRow]:
        """The attempts that ended on ``day`` (UTC), sorted by attempt; ``[]`` when none.

        Raises:
            IntegrityError: the object is not a Parquet file of this schema.
        """
        return self._read(learning_key(day))[0]

    def _read(self, key: str) -> tuple[list[LearningRow], str | None]:
        try:
            stored = self._objects.read(key)
        except ObjectNotFoundError:
            return [], None
        return decode_learning(stored.data, self._objects.uri(key)), stored.version


def _key_of(row: LearningRow) -> str:
    """The day on which it ended."""
    return learning_key(row.ended_utc.astimezone(UTC).date())
