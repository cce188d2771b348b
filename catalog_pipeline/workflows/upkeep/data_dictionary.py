"""The data dictionary: every published file and view, its grain, its columns and their meaning.

Made of ``stores/columns.py`` and of the comments in ``stores/views.sql``; nothing is said twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa

from catalog_pipeline.stores.columns import INDEX_SCHEMA, LEARNING_SCHEMA, MANIFEST_SCHEMA
from catalog_pipeline.workflows.upkeep.query import View, describe_views

_FILES = (
    (MANIFEST_SCHEMA, "manifest/dt=YYYY-MM-DD/part-0.parquet"),
    (INDEX_SCHEMA, "catalog/index.parquet"),
    (LEARNING_SCHEMA, "learning/dt=YYYY-MM-DD/part-0.parquet"),
)
_ALSO = {
    "image_manifest": "the same columns in `quarantine/dt=YYYY-MM-DD/part-0.parquet` (held back) "
    "and `_versions/manifest/dt=YYYY-MM-DD/<sha256>.parquet` (earlier states)"
}
_OF_INDEX = {"catalog", "left_out"}
_OF_LEARNING = {"learning", "learning_photos"}
_SHORT = {"timestamp[us, tz=UTC]": "timestamp(us, UTC)", "date32[day]": "date"}


@dataclass(frozen=True)
class DictionaryColumn:
    """``type`` is Arrow's in a file, DuckDB's in a view; ``null`` whether it may be null."""

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class DictionaryTable:
    """A file or a view; ``where`` is the file's key, empty for a view."""

    name: str
    where: str
    grain: str
    columns: tuple[DictionaryColumn, ...]
    schema_version: int = 0
    note: str = ""


def data_dictionary() -> tuple[DictionaryTable, ...]:
    """The files, then the views."""
    files = tuple(_file(schema, where) for schema, where in _FILES)
    return (*files, *(_view(view) for view in describe_views()))


def as_record(tables: Iterable[DictionaryTable]) -> Mapping[str, object]:
    """For JSON."""
    return {"tables": [asdict(table) for table in tables]}


def as_markdown(tables: Iterable[DictionaryTable]) -> str:
    """A heading and a table each, as in ``docs/data.md``."""
    return "\n\n".join(_section(table) for table in tables)


def _file(schema: pa.Schema, where: str) -> DictionaryTable:
    stamps = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    name = stamps["schema_name"]
    columns = tuple(
        DictionaryColumn(field.name, _type_name(field.type), _words(field)) for field in schema
    )
    return DictionaryTable(
        name, where, stamps["grain"], columns, int(stamps["schema_version"]), _ALSO.get(name, "")
    )


def _view(view: View) -> DictionaryTable:
    schemas = [MANIFEST_SCHEMA, INDEX_SCHEMA, LEARNING_SCHEMA]
    first = view.name in _OF_INDEX, view.name in _OF_LEARNING
    if any(first):
        schemas.insert(0, INDEX_SCHEMA if first[0] else LEARNING_SCHEMA)
    known = {field.name: _words(field) for schema in reversed(schemas) for field in schema}
    columns = tuple(
        DictionaryColumn(name, kind, words or known[name]) for name, kind, words in view.columns
    )
    return DictionaryTable(view.name, "", view.grain, columns)


def _words(field: pa.Field) -> str:
    return str(field.metadata[b"description"].decode())


def _type_name(kind: pa.DataType) -> str:
    """Arrow's name, without what follows from ``no column is null``."""
    if pa.types.is_map(kind):
        return f"map<{_type_name(kind.key_type)}, {_type_name(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        inner = (f"{part.name} {_type_name(part.type)}" for part in kind)
        return f"struct<{', '.join(inner)}>"
    return _SHORT.get(str(kind), str(kind))


def _section(table: DictionaryTable) -> str:
    whole, columns = _beyond_a_file(table)
    where = f"File `{table.where}`, schema version {table.schema_version}" if table.where else ""
    grain = f"{table.grain[0].upper()}{table.grain[1:]}"
    note = f"; {table.note}" if table.note else ""
    said = ". ".join(filter(None, (f"{where}{note}", grain, whole)))
    rows = [
        f"| `{column.name}` | `{column.type}` | {_cell(column.description)} |" for column in columns
    ]
    kind = "" if table.where else "View "
    head = ["", "| column | type | |", "|---|---|---|"] if rows else []
    return "\n".join(
        [f"#### {kind}`{table.name}`", "", f"{said}{':' if whole and rows else '.'}", *head, *rows]
    )


def _beyond_a_file(table: DictionaryTable) -> tuple[str, tuple[DictionaryColumn, ...]]:
    """Which file a view has every column of, in words, and the columns that this leaves to say."""
    names = {column.name for column in table.columns}
    for schema, _ in _FILES:
        if not table.where and names.issuperset(schema.names):
            told = {field.name: _words(field) for field in schema}
            more = tuple(c for c in table.columns if told.get(c.name) != c.description)
            file = schema.metadata[b"schema_name"].decode()
            return f"Every column of `{file}`{', and' if more else ''}", more
    return "", table.columns


def _cell(text: str) -> str:
    """``text`` in a table of Markdown: what looks like a tag is set as code."""
    return re.sub(r"/?<\w+>", r"`\g<0>`", text.replace("|", "\\|")).replace("->", "→")
