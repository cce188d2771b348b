"""The published Parquet schemas, and the only code that turns records into Parquet.

A schema is explicit, never inferred: a SKU ``00123`` stays a string, a night
without pictures has the same columns as one with. Files carry their schema's name
and version as Parquet key-value metadata. The same rows give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, pairwise
from operator import attrgetter
from typing import Any

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

_ARROW_SCHEMA = b"ARROW:schema"
_PARQUET = b"PAR1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    ordered = sorted(rows, key=lambda row: row.sku)
    return encode_table(ordered, "sku", INDEX_SCHEMA, {})


def decode_index(data: bytes, what: str) -> list[IndexRow]:
    """The rows of :func:`encode_index`; ``what`` names the file in errors.

    Raises:
        IntegrityError: not Parquet, or not this schema.
        StoreError: written by a newer version of this program.
    """
    columns = _columns(_table(data, INDEX_SCHEMA, what)[0])
    columns["status"] = map(SkuStatus, columns["status"])
    columns["left_out"] = map(dict, columns["left_out"])
    in_order = (columns[field.name] for field in fields(IndexRow))
    return [IndexRow(*values) for values in zip(*in_order, strict=True)]


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
    return encode_table(ordered, "image_id", MANIFEST_SCHEMA, metadata)


def encode_shard(rows: Sequence[ArchiveRow]) -> bytes:
    """What :func:`encode_manifest` holds, as an Arrow stream: a few rows, read once, and soon.

    Opening eight rows as Parquet takes three times as long.
    """
    ordered = sorted(rows, key=lambda row: row.image_id)
    table = _make_table(ordered, "image_id", MANIFEST_SCHEMA, {})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def decode_manifest(data: bytes, what: str) -> tuple[list[ArchiveRow], ManifestStamps]:
    """Rows and stamps of :func:`encode_manifest`; ``what`` names the file in errors.

    Rows of a version 1 file have one attempt and the verdict ``unscored``; those of version 1
    and 2 are ``learned``, without photos; those of 1 to 3 name neither plan nor concepts; those
    of 1 to 4 are of one collection each, and those of 1 to 5 have no digest of their pixels.

    Raises:
        IntegrityError: not Parquet, or not this schema.
        StoreError: written by a newer version of this program.
    """
    table, metadata = _table(data, MANIFEST_SCHEMA, what)
    return _archive_rows(table), _stamps(metadata)


def decode_shards(shards: Sequence[tuple[bytes, str]]) -> list[list[ArchiveRow]]:
    """The rows of each of many shards, which are given with what names them in errors.

    What :func:`decode_manifest` says of each; turning their columns into rows at once is faster.
    """
    tables = [_table(data, MANIFEST_SCHEMA, what)[0] for data, what in shards]
    rows = iter(_archive_rows(pa.concat_tables(tables).combine_chunks()) if tables else ())
    return [list(islice(rows, table.num_rows)) for table in tables]


def read_columns(
    data: bytes, what: str, *columns: str
) -> tuple[list[tuple[Any, ...]], ManifestStamps]:
    """What each row of a manifest has in plain ``columns``; the others are not decoded.

    Raises:
        IntegrityError: not Parquet, or not this schema.
        StoreError: written by a newer version of this program.
    """
    table, metadata = _table(data, MANIFEST_SCHEMA, what, columns)
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return list(rows), _stamps(metadata)


def values_as_text(data: bytes) -> str:
    """Every value and all metadata of a Parquet file or a shard, for a search; no schema is asked.

    Raises:
        IntegrityError: it is neither.
    """
    try:
        stamps, read = _open_table(data)
        table = read(None)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{len(data)} bytes are no table: {error}") from error
    return f"{stamps} {[_values(column) for column in table.columns]}"


def encode_learning(rows: Sequence[LearningRow]) -> bytes:
    """Parquet bytes of one day of the learning log; sorts by attempt.

    Raises:
        StoreError: an attempt twice, a time without a zone, or a value that does not fit.
    """
    ordered = sorted(rows, key=lambda row: row.attempt_id)
    return encode_table(ordered, "attempt_id", LEARNING_SCHEMA, {})


def decode_learning(data: bytes, what: str) -> list[LearningRow]:
    """The rows of :func:`encode_learning`; ``what`` names the file in errors.

    Raises:
        IntegrityError: not Parquet, or not this schema.
        StoreError: written by a newer version of this program.
    """
    rows = _decode(data, LEARNING_SCHEMA, what)
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


def _stamps(metadata: Mapping[str, str]) -> ManifestStamps:
    published = metadata.get("published_utc")
    return ManifestStamps(
        metadata.get("previous_version", ""),
        datetime.fromisoformat(published) if published else None,
    )


def _archive_rows(table: pa.Table) -> list[ArchiveRow]:
    columns = _columns(table)
    for name in ("scores", "photos", "concepts"):
        columns[name] = map(dict, columns[name])
    columns["skus"] = map(tuple, columns["skus"])
    columns["boxes"] = (
        {sku: tuple(box[side] for side in SIDES) for sku, box in boxes}
        for boxes in columns["boxes"]
    )
    columns["sources"] = (
        {sku: Source(**source) for sku, source in sources} for sources in columns["sources"]
    )
    in_order = [columns[field.name] for field in fields(ArchiveRow)]
    return [ArchiveRow(*values) for values in zip(*in_order, strict=True)]


def encode_table(
    rows: Sequence[object], grain: str, schema: pa.Schema, metadata: Mapping[str, str]
) -> bytes:
    """Parquet bytes of ``rows``, in their order; ``grain`` is the attribute that tells them apart.

    Raises:
        StoreError: one ``grain`` twice in a row, or a value that does not fit its column.
    """
    sink = io.BytesIO()
    pq.write_table(_make_table(rows, grain, schema, metadata), sink, compression="zstd")
    return sink.getvalue()


def _make_table(
    rows: Sequence[object], grain: str, schema: pa.Schema, metadata: Mapping[str, str]
) -> pa.Table:
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
        columns = [_array(name, column, rows) for column in schema]
        table = pa.Table.from_arrays(columns, schema=stamped)
        table.validate(full=True)
    except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
        raise StoreError(f"a row does not fit the schema of {name}: {error}") from error
    return table


def _array(name: str, column: pa.Field, rows: Sequence[object]) -> pa.Array:
    values = list(map(attrgetter(column.name), rows))
    if pa.types.is_timestamp(column.type):
        naive = next((v for v in values if v is not None and v.tzinfo is None), None)
        if naive is not None:
            raise StoreError(
                f"column {column.name!r} of {name} is {naive.isoformat()} without a time zone; "
                "expected an aware UTC time"
            )
    elif pa.types.is_nested(column.type):
        values = list(map(_nested, values))
    array = pa.array(values, column.type)
    if array.null_count and not column.nullable:
        raise StoreError(f"column {column.name!r} of {name} is None; every column has a value")
    return array


def _nested(value: Any) -> Any:
    """A map or a list as Arrow takes it."""
    if isinstance(value, Mapping):
        return sorted((key, _entry(entry)) for key, entry in value.items()) if value else []
    if isinstance(value, tuple):
        return [asdict(entry) if isinstance(entry, PhotoUse) else entry for entry in value]
    return value


def _entry(value: Any) -> Any:
    """The value of a map: a box by its sides, a source by its fields, any other as it is."""
    if isinstance(value, Source):
        return value._asdict()
    return dict(zip(SIDES, value, strict=True)) if isinstance(value, tuple) else value


def _decode(data: bytes, schema: pa.Schema, what: str) -> list[dict[str, Any]]:
    columns = _columns(_table(data, schema, what)[0])
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _columns(table: pa.Table) -> dict[str, Iterable[Any]]:
    return {name: _values(table.column(name)) for name in table.column_names}


def _values(column: pa.ChunkedArray) -> list[Any]:
    """As Python has them; times, which Arrow makes slowly and with a zone of its own, in UTC."""
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    moments = column.cast(pa.int64()).to_pylist()
    return [None if m is None else _EPOCH + timedelta(microseconds=m) for m in moments]


def _table(
    data: bytes, schema: pa.Schema, what: str, columns: Sequence[str] | None = None
) -> tuple[pa.Table, dict[str, str]]:
    """The ``columns`` of ``schema``, by default all, and the file's metadata."""
    try:
        metadata, read = _open_table(data)
        young = _young_columns(metadata, schema, what)
        table = read(columns)
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        if not table.schema.equals(schema):
            stored = set(table.column_names)
            for name in schema.names:
                if name in young and name not in stored:
                    column = pa.array([young[name]] * table.num_rows, schema.field(name).type)
                    table = table.append_column(name, column)
            _check_columns(table.column_names, schema, what)
            table = table.select(schema.names).cast(schema)
        table = table.replace_schema_metadata(None)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"{what} is not a readable Parquet file: {error}; restore it from its "
            "immutable copy or a backup"
        ) from error
    return table, metadata


def _open_table(
    data: bytes,
) -> tuple[dict[str, str], Callable[[Sequence[str] | None], pa.Table]]:
    """A Parquet file's or a shard's own metadata, and what reads some or all of its columns."""
    read: Callable[[Sequence[str] | None], pa.Table]
    # A thread of Arrow that still lets go of Python's bytes while the interpreter ends
    # aborts the process, after its work is done. Without these defaults it starts none.
    if data.startswith(_PARQUET):
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)  # noqa: TID251
        stamps, read = file.metadata.metadata or {}, partial(file.read, use_threads=False)
    else:  # a shard
        options = pa.ipc.IpcReadOptions(use_threads=False)
        stream = pa.ipc.open_stream(pa.BufferReader(data), options=options)
        stamps, read = stream.schema.metadata or {}, lambda columns: stream.read_all()
    return {k.decode(): v.decode() for k, v in stamps.items() if k != _ARROW_SCHEMA}, read


def _young_columns(metadata: Mapping[str, str], schema: pa.Schema, what: str) -> dict[str, Any]:
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
    return {name: v for name, (since, v) in ADDED.get(wanted, {}).items() if since > int(version)}


def _check_columns(columns: Sequence[str], schema: pa.Schema, what: str) -> None:
    missing = [name for name in schema.names if name not in columns]
    if missing:
        raise IntegrityError(f"{what} lacks the column(s) {', '.join(missing)}")
