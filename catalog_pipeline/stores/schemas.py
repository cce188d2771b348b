"""The published Parquet schemas, and the only code that turns records into Parquet.

A schema is explicit, never inferred: a SKU ``00123`` stays a string, a night
without pictures has the same columns as one with. Files carry their schema's name
and version as Parquet key-value metadata. The same rows give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.records import ArchiveRow, IndexRow, SkuStatus

INDEX_SCHEMA_VERSION = 1
"""Raised whenever a column of the index is added, removed or changes its meaning."""

MANIFEST_SCHEMA_VERSION = 3
"""Likewise of the manifest. Version 2 added ``attempts`` and ``verdict``, version 3 ``mode`` and
what belongs to it."""

_Record = TypeVar("_Record", IndexRow, ArchiveRow)

_UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")

_SIDES = ("left", "top", "right", "bottom")
_BOX = pa.struct([pa.field(side, pa.int32(), nullable=False) for side in _SIDES])
"""Pixels; right and bottom are exclusive."""


def _schema(name: str, version: int, columns: Sequence[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(
        [pa.field(column, kind, nullable=False) for column, kind in columns],
        metadata={"schema_name": name, "schema_version": str(version)},
    )


INDEX_SCHEMA = _schema(
    "catalog_index",
    INDEX_SCHEMA_VERSION,
    [
        ("sku", pa.string()),
        ("collection", pa.string()),
        ("name", pa.string()),
        ("class_noun", pa.string()),
        ("category", pa.string()),
        ("content_hash", pa.string()),
        ("learned_hash", pa.string()),
        ("photo_count", pa.int32()),
        ("bytes", pa.int64()),
        ("first_seen_utc", _UTC_MICROSECONDS),
        ("newest_modified_utc", _UTC_MICROSECONDS),
        ("status", pa.string()),
        ("reason", pa.string()),
    ],
)
"""``catalog/index.parquet``; grain: one row per SKU ever seen, sorted by ``sku``."""

MANIFEST_SCHEMA = _schema(
    "image_manifest",
    MANIFEST_SCHEMA_VERSION,
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("day", pa.date32()),
        ("job_id", pa.string()),
        ("prompt", pa.string()),
        ("skus", pa.list_(pa.field("element", pa.string(), nullable=False))),
        ("layout", pa.string()),
        ("seed", pa.int64()),
        ("sampler", pa.string()),
        ("steps", pa.int32()),
        ("guidance", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("base_model_hash", pa.string()),
        ("collection", pa.string()),
        ("adapter_version", pa.string()),
        ("memory_version", pa.string()),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("superseded", pa.bool_()),
        ("created_utc", _UTC_MICROSECONDS),
        ("schema_version", pa.int32()),
        ("attempts", pa.int32()),
        ("verdict", pa.string()),
        ("mode", pa.string()),
        ("mode_reason", pa.string()),
        ("photos", pa.map_(pa.string(), pa.string())),
        ("boxes", pa.map_(pa.string(), _BOX)),
        ("strength", pa.float64()),
        ("real_pixels", pa.float64()),
    ],
)
"""``manifest/dt=.../part-0.parquet``; grain: one row per ``image_id``, sorted by it.

The column ``schema_version`` is that of the program that made the row; the file's own
is in its metadata. ``quarantine/dt=.../part-0.parquet`` has the same schema.

``dt`` of the path is a partition column; the file's own date is ``day``, so that
no reader meets one column twice. There is no partition on SKU: hive readers would
turn ``00123`` into 123.
"""

_ADDED: Mapping[str, Mapping[str, tuple[int, Any]]] = {
    "image_manifest": {
        "attempts": (2, 1),
        "verdict": (2, "unscored"),
        "mode": (3, "learned"),
        "mode_reason": (3, ""),
        "photos": (3, ()),
        "boxes": (3, ()),
        "strength": (3, 1.0),
        "real_pixels": (3, 0.0),
    }
}
"""Schema -> column -> the version that brought it, and its value in older files."""


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
    return [IndexRow(**{**row, "status": SkuStatus(row["status"])}) for row in rows]


def encode_manifest(rows: Sequence[ArchiveRow], previous: str = "") -> bytes:
    """Parquet bytes of one night; sorts by image id.

    ``previous`` is the content hash of the manifest that this one replaces; it
    chains the versions and is stored as metadata ``previous_version``.

    Raises:
        StoreError: an image id twice, a time without a zone, or a value that does
            not fit its column.
    """
    ordered = sorted(rows, key=lambda row: row.image_id)
    return _encode(ordered, "image_id", MANIFEST_SCHEMA, {"previous_version": previous})


def decode_manifest(data: bytes, what: str) -> tuple[list[ArchiveRow], str]:
    """Rows and ``previous`` of :func:`encode_manifest`; ``what`` names the file in errors.

    Rows of a version 1 file have one attempt and the verdict ``unscored``; those of version 1
    and 2 are ``learned``, without photos.

    Raises:
        IntegrityError: not Parquet, or not this schema.
        StoreError: written by a newer version of this program.
    """
    rows, metadata = _decode(data, MANIFEST_SCHEMA, what)
    return [_archive_row(row) for row in rows], metadata.get("previous_version", "")


def is_outdated(manifest: bytes) -> bool:
    """Whether a manifest is of an earlier schema version; one that cannot be read is not."""
    try:
        stamps = pq.read_schema(pa.BufferReader(manifest)).metadata or {}
        return int(stamps[b"schema_version"]) < MANIFEST_SCHEMA_VERSION
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return False


def _archive_row(row: Mapping[str, Any]) -> ArchiveRow:
    boxes = {sku: tuple(box[side] for side in _SIDES) for sku, box in row["boxes"]}
    maps = {"scores": dict(row["scores"]), "photos": dict(row["photos"]), "boxes": boxes}
    return ArchiveRow(**{**row, **maps, "skus": tuple(row["skus"])})


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
                field.name: _plain(name, field.name, getattr(row, field.name))
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


def _plain(name: str, column: str, value: Any) -> Any:
    if value is None:
        raise StoreError(f"column {column!r} of {name} is None; every column has a value")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise StoreError(
                f"column {column!r} of {name} is {value.isoformat()} without a time zone; "
                "expected an aware UTC time"
            )
        return value.astimezone(UTC)
    if isinstance(value, Mapping):
        return sorted((key, _entry(entry)) for key, entry in value.items())
    return value


def _entry(value: Any) -> Any:
    """The value of a map: a box by its sides, any other as it is."""
    return dict(zip(_SIDES, value, strict=True)) if isinstance(value, tuple) else value


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
    young = {name: v for name, (since, v) in _ADDED.get(wanted, {}).items() if since > int(version)}
    missing = [name for name in schema.names if name not in columns and name not in young]
    if missing:
        raise IntegrityError(f"{what} lacks the column(s) {', '.join(missing)}")
    return {name: value for name, value in young.items() if name not in columns}
