"""The rules of a night's manifest: which rows may enter, how they merge, which state held when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from catalog_pipeline.errors import ObjectNotFoundError, StoreError
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.keys import image_key, staging_folder
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.schemas import read_columns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


NOT_PLANNED = "the plan in force no longer asks for it"
"""The reason of a superseded row, where the caller knows no better one."""


def merged_rows(
    before: Mapping[str, ArchiveRow],
    given: Mapping[str, ArchiveRow],
    planned: frozenset[str],
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, ArchiveRow]:
    """``before`` with ``given`` merged in, by image id, in the order of image ids.

    A row whose picture and description stay is the very object of ``before``; of two
    that differ the one made later counts, and of one time the given one. A row is
    superseded exactly when its image id is not in ``planned``; ``reasons`` says why, by image
    id, where it is not that the plan no longer asks for it.
    """
    merged = {}
    for image_id in sorted(before.keys() | given.keys()):
        row = before.get(image_id) or given[image_id]
        new = given.get(image_id, row)
        if new is not row and _replaces(new, row):
            row = new
        gone = image_id not in planned
        merged[image_id] = marked(row, gone, reasons.get(image_id, NOT_PLANNED) if gone else "")
    return merged


def marked(row: ArchiveRow, superseded: bool, reason: str) -> ArchiveRow:
    """``row`` with ``superseded`` so and that reason; the very object when it is so already."""
    if row.superseded == superseded:
        return row
    return replace(row, superseded=superseded, reason=reason)


def _replaces(new: ArchiveRow, row: ArchiveRow) -> bool:
    return new.created_utc >= row.created_utc and _description(new) != _description(row)


def _description(row: ArchiveRow) -> tuple[ArchiveRow, list[tuple[str, str]]]:
    """What a row says of its picture; scores as text, so that NaN equals itself.

    When it was made, how long that took, for which plan, and whether it is still asked for,
    and why not, is no part of that.
    """
    scores = sorted((name, repr(float(score))) for name, score in row.scores.items())
    plain = replace(row, created_utc=_EPOCH, render_seconds=0.0, plan_hash="", reason="")
    return replace(plain, superseded=False, scores={}), scores


def newest_rows(rows: Iterable[ArchiveRow]) -> dict[str, ArchiveRow]:
    """The rows by image id; of two for one picture the one made later, of one time the last."""
    newest: dict[str, ArchiveRow] = {}
    for row in rows:
        known = newest.get(row.image_id)
        if known is None or known.created_utc <= row.created_utc:
            newest[row.image_id] = row
    return newest


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


def check_pictures(objects: ObjectStore, rows: Sequence[ArchiveRow]) -> None:
    """See that the picture of every row is stored; its bytes are not read.

    Raises:
        ObjectNotFoundError: a row names a picture that is not stored, or by a wrong key.
    """
    named = {row.path for row in rows if row.path == image_key(row.sha256)}
    stored = named.difference(objects.missing_keys(named))
    for row in rows:
        if row.path not in stored:
            raise ObjectNotFoundError(
                f"row {row.image_id} names the picture {row.path!r}, expected "
                f"{image_key(row.sha256)!r} to be stored; delete {staging_folder(row.day)!r} "
                "and render the night again"
            )


def column_values(objects: ObjectStore, key: str, column: str) -> set[str]:
    """What the rows of the manifest under ``key`` have in a text ``column``; decodes no other.

    Raises:
        IntegrityError: the object is not a Parquet file of the manifest's schema.
    """
    return {value for (value,) in _columns_of(objects, key, column)}


def adapter_versions(objects: ObjectStore, key: str) -> set[str]:
    """Every adapter version that drew a product of the manifest under ``key``.

    Raises:
        IntegrityError: the object is not a Parquet file of the manifest's schema.
    """
    rows = _columns_of(objects, key, "adapter_version", "sources")
    drawn = {source["adapter_version"] for _, sources in rows for _, source in sources}
    return drawn.union(version for version, _ in rows)


class PictureDigests(NamedTuple):
    """What a row knows its picture by; width and height in pixels."""

    image_id: str
    sha256: str
    pixels_sha256: str
    width: int
    height: int


def picture_digests(objects: ObjectStore, key: str) -> list[PictureDigests]:
    """Of every row of the manifest under ``key``; decodes nothing else.

    Raises:
        IntegrityError: the object is not a Parquet file of the manifest's schema.
    """
    return [PictureDigests(*row) for row in _columns_of(objects, key, *PictureDigests._fields)]


def _columns_of(objects: ObjectStore, key: str, *columns: str) -> list[tuple[Any, ...]]:
    try:
        data = objects.read(key).data
    except ObjectNotFoundError:
        return []
    return read_columns(data, objects.uri(key), *columns)[0]


@dataclass(frozen=True)
class ManifestState:
    """One state of a night; ``version`` and ``previous`` are the SHA-256 of Parquet files.

    ``published_utc`` is what the file says; of one of schema 3 and earlier, which says
    nothing, when the store took the immutable copy.
    """

    version: str
    previous: str
    published_utc: datetime
    rows: int
    superseded: int


def moment_of_publication(replaced: datetime | None) -> datetime:
    """Now, but always after the state that is replaced: a clock that was set back reorders none."""
    now = datetime.now(UTC)
    return now if replaced is None else max(now, replaced + timedelta(microseconds=1))


def state_as_of(
    states: Sequence[ManifestState], day: date, as_of: str | datetime | None
) -> ManifestState:
    """Of ``states``, oldest first, the one that ``as_of`` means; see the archive."""
    if not states:
        raise ObjectNotFoundError(f"{day} has no manifest; publish the night first")
    if as_of is None:
        return states[-1]
    if isinstance(as_of, str):
        return _by_version(states, day, as_of)
    if as_of.tzinfo is None:
        raise StoreError(f"the time {as_of.isoformat()} has no zone; expected an aware time")
    in_force = [state for state in states if state.published_utc <= as_of]
    if not in_force:
        raise ObjectNotFoundError(
            f"{day} had no manifest at {as_of.isoformat()}; its first state is of "
            f"{states[0].published_utc:%Y-%m-%dT%H:%M:%S}Z"
        )
    return in_force[-1]


def _by_version(states: Sequence[ManifestState], day: date, version: str) -> ManifestState:
    found = [state for state in states if version and state.version.startswith(version)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(state.version[:12] for state in (found or states))
    if found:
        raise StoreError(f"{version!r} is not one version of {day}: {known}; give more of it")
    raise ObjectNotFoundError(f"{day} has no version {version!r}; expected one of {known}")
