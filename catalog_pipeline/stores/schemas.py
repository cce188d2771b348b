"""The published Parquet schemas, and the only code that turns records into Parquet.

A schema is explicit, never inferred: a SKU ``00123`` stays a string, a night
without pictures has the same columns as one with. Files carry their schema's name
and version as Parquet key-value metadata. The same rows give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.records import (
    ArchiveRow,
    IndexRow,
    LearningRow,
    PhotoUse,
    SkuStatus,
    Source,
)
from catalog_pipeline.stores.columns import (
    ADDED,
    INDEX_SCHEMA,
    LEARNING_SCHEMA,
    MANIFEST_SCHEMA,
    MANIFEST_SCHEMA_VERSION,
    SIDES,
)

_Record = TypeVar("_Record", IndexRow, ArchiveRow, LearningRow)


@dataclass(frozen=True)
class ManifestStamps:
    """What a manifest says of itself besides its rows.

    ``previous`` is the content hash of the manifest that it replaced; empty for the first.
    ``published_utc`` is when it was made; ``None`` in files of schema 3 and earlier.
    """

    previous: str = ""
    published_utc: datetime | None = None


def encode_index(rows: Sequence[IndexRow]) -> bytes:
    """Parquet bytes of an index; sorts by SKU.

    Raises:
        StoreError: a SKU twice, a time without a zone, or a value that does not
            fit its column.
    """
    return _encode(sorted(rows, key=lambda row: row.sku), "sku", INDEX_SCHEMA, {})


def decode_index(data: bytes, what: str) -> list[IndexRow]:
    """The rows of :func:`encode_index`; ``what`` names the file in errors.

    Raises:
        IntegrityError: not Parquet, or not this schema.
        StoreError: written by a newer version of this program.
    """
    rows, _ = _decode(data, INDEX_SCHEMA, what)
    return [
        IndexRow(**{**row, "status": SkuStatus(row["status"]), "left_out": dict(row["left_out"])})
        for row in rows
    ]


def encode_manifest(rows: Sequence[ArchiveRow], stamps: ManifestStamps = ManifestStamps()) -> bytes:
    """Parquet bytes of one night; sorts by image id.

    ``stamps`` chain the versions and date them; they are stored as metadata
    ``previous_version`` and ``published_utc``.

    Raises:
        StoreError: an image id twice, a time without a zone, or a value that does
            not fit its column.
    """
    ordered = sorted(rows, key=lambda row: row.image_id)
    published = stamps.published_utc
    metadata = {"previous_version": stamps.previous}
    if published is not None:
        metadata["published_utc"] = published.astimezone(UTC).isoformat()
    return _encode(ordered, "image_id", MANIFEST_SCHEMA, metadata)


def decode_manifest(data: bytes, what: str) -> tuple[list[ArchiveRow], ManifestStamps]:
    """Rows and stamps of :func:`encode_manifest`; ``what`` names the file in errors.

    Rows of a version 1 file have one attempt and the verdict ``unscored``; those of version 1
    and 2 are ``learned``, without photos; those of 1 to 3 name neither plan nor concepts; those
    of 1 to 4 are of one collection each.

    Raises:
        IntegrityError: not Parquet, or not this schema.
        StoreError: written by a newer version of this program.
    """
    rows, metadata = _decode(data, MANIFEST_SCHEMA, what)
    published = metadata.get("published_utc")
    stamps = ManifestStamps(
        metadata.get("previous_version", ""),
        datetime.fromisoformat(published) if published else None,
    )
    return [_archive_row(row) for row in rows], stamps


def encode_learning(rows: Sequence[LearningRow]) -> bytes:
    """Parquet bytes of one day of the learning log; sorts by attempt.

    Raises:
        StoreError: an attempt twice, a time without a zone, or a value that does not fit.
    """
    ordered = sorted(rows, key=lambda row: row.attempt_id)
    return _encode(ordered, "attempt_id", LEARNING_SCHEMA, {})


def decode_learning(data: bytes, what: str) -> list[LearningRow]:
    """The rows of :func:`encode_learning`; ``what`` names the file in errors.

    Raises:
        IntegrityError: not Parquet, or not this schema.
        StoreError: written by a newer version of this program.
    """
    rows, _ = _decode(data, LEARNING_SCHEMA, what)
    return [
        LearningRow(
            **{
                **row,
                "photos": tuple(PhotoUse(**photo) for photo in row["photos"]),
                "metrics": dict(row["metrics"]),
            }
        )
        for row in rows
    ]


def is_outdated(manifest: bytes) -> bool:
    """Whether a manifest is of an earlier schema version; one that cannot be read is not."""
    try:
        stamps = pq.read_schema(pa.BufferReader(manifest)).metadata or {}
        return int(stamps[b"schema_version"]) < MANIFEST_SCHEMA_VERSION
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return False


def _archive_row(row: Mapping[str, Any]) -> ArchiveRow:
    boxes = {sku: tuple(box[side] for side in SIDES) for sku, box in row["boxes"]}
    maps = {name: dict(row[name]) for name in ("scores", "photos", "concepts")}
    sources = {sku: Source(**source) for sku, source in row["sources"]}
    made = {"boxes": boxes, "sources": sources, "skus": tuple(row["skus"])}
    return ArchiveRow(**{**row, **maps, **made})


def _encode(
    rows: Sequence[_Record], grain: str, schema: pa.Schema, metadata: Mapping[str, str]
) -> bytes:
    name = schema.metadata[b"schema_name"].decode()
    keys = [getattr(row, grain) for row in rows]
    repeated = sorted({a for a, b in pairwise(keys) if a == b})
    if repeated:
        raise StoreError(
            f"{name} would hold {grain} {', '.join(map(repr, repeated[:5]))} more than once; "
            f"expected one row per {grain}"
        )
    stamped = schema.with_metadata({**schema.metadata, **metadata})
    try:
        plain = [
            {
                field.name: _plain(name, schema.field(field.name), getattr(row, field.name))
                for field in fields(row)
            }
            for row in rows
        ]
        table = pa.Table.from_pylist(plain, schema=stamped)
        table.validate(full=True)
    except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
        raise StoreError(f"a row does not fit the schema of {name}: {error}") from error
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _plain(name: str, column: pa.Field, value: Any) -> Any:
    if value is None:
        if column.nullable:
            return None
        raise StoreError(f"column {column.name!r} of {name} is None; every column has a value")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise StoreError(
                f"column {column.name!r} of {name} is {value.isoformat()} without a time zone; "
                "expected an aware UTC time"
            )
        return value.astimezone(UTC)
    if isinstance(value, Mapping):
        return sorted((key, _entry(entry)) for key, entry in value.items())
    if isinstance(value, tuple):
        return [asdict(entry) if isinstance(entry, PhotoUse) else entry for entry in value]
    return value


def _entry(value: Any) -> Any:
    """The value of a map: a box by its sides, a source by its fields, any other as it is."""
    if isinstance(value, Source):
        return value._asdict()
    return dict(zip(SIDES, value, strict=True)) if isinstance(value, tuple) else value


def _decode(
    data: bytes, schema: pa.Schema, what: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    try:
        # A thread of Arrow that still lets go of Python's bytes while the interpreter ends
        # aborts the process, after its work is done. Without either default it starts none.
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)  # noqa: TID251
        stamps = file.schema_arrow.metadata or {}
        metadata = {key.decode(): value.decode() for key, value in stamps.items()}
        added = _check_schema(metadata, file.schema_arrow.names, schema, what)
        table = file.read(use_threads=False)
        for name, value in added.items():
            column = pa.array([value] * table.num_rows, schema.field(name).type)
            table = table.append_column(name, column)
        table = table.select(schema.names).cast(schema)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"{what} is not a readable Parquet file: {error}; restore it from its "
            "immutable copy or a backup"
        ) from error
    rows = table.to_pylist()
    for row in rows:
        for column, value in row.items():
            if isinstance(value, datetime):
                row[column] = value.astimezone(UTC)
    return rows, metadata


def _check_schema(
    metadata: Mapping[str, str], columns: Sequence[str], schema: pa.Schema, what: str
) -> dict[str, Any]:
    """The columns that are younger than the file, with the value that its rows have."""
    wanted = schema.metadata[b"schema_name"].decode()
    newest = int(schema.metadata[b"schema_version"])
    found, version = metadata.get("schema_name"), metadata.get("schema_version", "")
    if found != wanted or not version.isdigit():
        raise IntegrityError(
            f"{what} has schema {found!r} version {version!r}; expected {wanted!r}, version "
            f"1 to {newest}"
        )
    if int(version) > newest:
        raise StoreError(
            f"{what} was written with schema version {version}; this program reads up to "
            f"{newest}: upgrade catalog-pipeline"
        )
    young = {name: v for name, (since, v) in ADDED.get(wanted, {}).items() if since > int(version)}
    missing = [name for name in schema.names if name not in columns and name not in young]
    if missing:
        raise IntegrityError(f"{what} lacks the column(s) {', '.join(missing)}")
    return {name: value for name, value in young.items() if name not in columns}
