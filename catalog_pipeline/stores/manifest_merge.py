"""How the rows of a rerun meet the rows that a night's manifest already has. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from catalog_pipeline.errors import StoreError
from catalog_pipeline.records import ArchiveRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def merged_rows(
    before: Mapping[str, ArchiveRow], given: Mapping[str, ArchiveRow], planned: frozenset[str]
) -> dict[str, ArchiveRow]:
    """``before`` with ``given`` merged in, by image id, in the order of image ids.

    A row whose picture and description stay is the very object of ``before``; of two
    that differ the one made later counts, and of one time the given one. A row is
    superseded exactly when its image id is not in ``planned``.
    """
    merged = {}
    for image_id in sorted(before.keys() | given.keys()):
        row = before.get(image_id) or given[image_id]
        new = given.get(image_id, row)
        if new is not row and _replaces(new, row):
            row = new
        superseded = image_id not in planned
        merged[image_id] = (
            row if row.superseded == superseded else replace(row, superseded=superseded)
        )
    return merged


def _replaces(new: ArchiveRow, row: ArchiveRow) -> bool:
    return new.created_utc >= row.created_utc and _description(new) != _description(row)


def _description(row: ArchiveRow) -> tuple[ArchiveRow, list[tuple[str, str]]]:
    """All of a row but when it was made; scores as text, so that NaN equals itself."""
    scores = sorted((name, repr(float(score))) for name, score in row.scores.items())
    return replace(row, created_utc=_EPOCH, superseded=False, scores={}), scores


def rows_by_image_id(rows: Sequence[ArchiveRow]) -> dict[str, ArchiveRow]:
    """The rows by image id; StoreError when two for one picture differ."""
    found: dict[str, ArchiveRow] = {}
    for row in rows:
        other = found.setdefault(row.image_id, row)
        if other is not row and _description(other) != _description(row):
            raise StoreError(
                f"two different rows for the picture {row.image_id}: {other.path!r} and "
                f"{row.path!r}; expected one row per image id"
            )
    return found


def check_days(day: date, rows: Sequence[ArchiveRow]) -> None:
    """StoreError when a row is not of ``day``."""
    for row in rows:
        if row.day != day:
            raise StoreError(f"row {row.image_id} is of {row.day}; expected rows of {day} only")
