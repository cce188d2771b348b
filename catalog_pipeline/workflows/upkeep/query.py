"""SQL over everything that a home has published, as it is at one moment.

The views are those of ``stores/views.sql``, over copies of the Parquet files that no
publication touches. A query reads nothing else and writes nothing:

- it is one ``SELECT`` (``WITH``, ``FROM``, ``VALUES``, ``DESCRIBE``, ``SUMMARIZE``, ``SHOW``);
  any other statement is refused before it runs;
- DuckDB opens no file but the copies (``enable_external_access`` is off), loads no extension,
  sees no variable of Python, and its configuration is locked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from catalog_pipeline.errors import ConfigurationError, IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.keys import (
    LEARNING_PREFIX,
    MANIFEST_PREFIX,
    QUARANTINE_PREFIX,
    VERSIONS_PREFIX,
)
from catalog_pipeline.workflows.home import Home

if TYPE_CHECKING:
    import duckdb

FileFormat = Literal["csv", "json", "parquet"]

_TABLES = (MANIFEST_PREFIX, QUARANTINE_PREFIX, LEARNING_PREFIX, "catalog/index.parquet")
_OF_HISTORY = re.compile(r"\b(?:history|changes)\b", re.IGNORECASE)
"""Names the views for which every state of every night has to be copied."""
_NUMBER = re.compile(r"U?[A-Z]*INT(EGER)?$|DOUBLE$|FLOAT$|DECIMAL")

_COPY = {
    "csv": "(FORMAT csv, HEADER true)",
    "json": "(FORMAT json, ARRAY true)",
    "parquet": "(FORMAT parquet, COMPRESSION zstd)",
}


@dataclass(frozen=True)
class QueryResult:
    """The first rows of an answer as text; ``None`` where a value is null.

    ``count`` is how many rows the answer has; ``numeric`` says which columns hold numbers.
    """

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str | None, ...], ...]
    count: int


@dataclass(frozen=True)
class View:
    """One view: what a row of it is, and its columns with DuckDB's types and their comments."""

    name: str
    grain: str
    columns: tuple[tuple[str, str, str], ...]


def views_sql() -> str:
    """The text of ``stores/views.sql``, which any DuckDB runs."""
    return (files("catalog_pipeline") / "stores" / "views.sql").read_text("utf-8")


def describe_views() -> tuple[View, ...]:
    """Every view, in the order of the file; needs no home."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        connection.execute(f"SET VARIABLE home = '';\n{_without_files()}\n{views_sql()}")
        grains = dict(
            connection.execute(
                "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        )
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
            "WHERE NOT internal ORDER BY table_name, column_index"
        ).fetchall()
    order = re.findall(r"^CREATE OR REPLACE VIEW (\w+)", views_sql(), flags=re.MULTILINE)
    return tuple(
        View(
            name,
            grains[name] or "",
            tuple((c, kind, words or "") for view, c, kind, words in columns if view == name),
        )
        for name in order
    )


def query_as_text(home: Home, sql: str, at_most: int) -> tuple[QueryResult, ...]:
    """The answers to the queries of ``sql``, which semicolons part, all of the same moment.

    Of each the first ``at_most`` rows as text, times in UTC.

    Raises:
        ConfigurationError: no SQL of DuckDB, or a statement that does more than read.
        IntegrityError: a file of the home cannot be read.
    """
    queries = statements_of(sql)
    with _snapshot(home, sql) as (connection, folder):
        return tuple(_first_rows(home, connection, folder, query, at_most) for query in queries)


def query_as_file(home: Home, sql: str, form: FileFormat) -> bytes:
    """The answer to one query as a file: CSV with a head line, an array of JSON, or Parquet.

    Raises:
        ConfigurationError: no SQL of DuckDB, or not one query that only reads.
        IntegrityError: a file of the home cannot be read.
    """
    queries = statements_of(sql)
    if len(queries) > 1:
        raise ConfigurationError(
            f"{len(queries)} queries; expected one, since a {form} file holds one table; "
            "--format table prints several"
        )
    with _snapshot(home, sql) as (connection, folder):
        written = folder / "answer"
        quoted = str(written).replace("'", "''")
        with _telling(home, folder):
            _ask(connection, queries[0])
            connection.execute(f"COPY answer TO '{quoted}' {_COPY[form]}")
        data = written.read_bytes()
    return _strict(data) if form == "json" else data


def statements_of(text: str) -> list[str]:
    """The queries of ``text``, which semicolons part.

    Raises:
        ConfigurationError: no SQL of DuckDB, none at all, or one that does more than read.
    """
    import duckdb

    try:
        with duckdb.connect(":memory:") as connection:
            found = connection.extract_statements(text)
    except duckdb.Error as error:
        raise ConfigurationError(f"the query is no SQL: {_one_line(error)}") from error
    for statement in found:
        if statement.type != duckdb.StatementType.SELECT:
            raise ConfigurationError(
                f"the query is a statement of kind {statement.type.name}; expected SELECT, "
                "which only reads: nothing can be written, set or attached here; "
                "--out FILE writes what a query finds"
            )
    if not found:
        raise ConfigurationError("the query is empty; expected SQL such as 'FROM nights'")
    return [statement.query.strip().rstrip(";") for statement in found]


@contextmanager
def _snapshot(home: Home, sql: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A locked database with the views as they are now, and the folder of its copies."""
    import duckdb

    with TemporaryDirectory(prefix="catalog-pipeline-") as name:
        folder = Path(name).resolve()
        _copy_tables(home, folder, history=bool(_OF_HISTORY.search(sql)))
        with duckdb.connect(":memory:") as connection:
            _open(home, connection, folder)
            yield connection, folder


def _ask(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Make the table ``answer`` of a query; a comment at its end ends with its line."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE answer AS FROM (\n{query}\n)")


def _first_rows(
    home: Home, connection: duckdb.DuckDBPyConnection, folder: Path, query: str, at_most: int
) -> QueryResult:
    with _telling(home, folder):
        _ask(connection, query)
        kinds = connection.execute("DESCRIBE answer").fetchall()
        (count,) = connection.execute("SELECT count(*) FROM answer").fetchall()[0]
        text = f"SELECT COLUMNS(*)::VARCHAR FROM answer LIMIT {at_most}"
        rows = connection.execute(text).fetchall()
    return QueryResult(
        columns=tuple(kind[0] for kind in kinds),
        numeric=tuple(bool(_NUMBER.match(kind[1])) for kind in kinds),
        rows=tuple(rows),
        count=count,
    )


@contextmanager
def _telling(home: Home, folder: Path) -> Iterator[None]:
    """Say in one line what DuckDB refuses, and whether the query or a file is at fault."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if isinstance(error, duckdb.IOException) or f"{folder}/" in str(error):
            raise _damaged(home, folder, error) from error
        raise ConfigurationError(f"the query failed: {_one_line(error)}") from error


def _open(home: Home, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Make the views over the copies in ``folder``, then lock everything else away."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET temp_directory = ?", [str(folder / "spill")])
    connection.execute("SET allowed_directories = ?", [[str(folder)]])
    connection.execute("SET VARIABLE home = ?", [str(folder)])
    with _telling(home, folder):
        connection.execute(views_sql())
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _copy_tables(home: Home, folder: Path, *, history: bool) -> None:
    """Copy each file once, whole, under its key: every night as it is before or after a change."""

    def fetch(key: str) -> None:
        try:
            data = home.objects.read(key).data
        except ObjectNotFoundError:
            return  # removed after the listing
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    prefixes = (*_TABLES, VERSIONS_PREFIX) if history else _TABLES
    keys = [key for prefix in prefixes for key in home.objects.list(prefix)]
    home.objects.each_of(fetch, [key for key in keys if key.endswith(".parquet")])


def _strict(data: bytes) -> bytes:
    """JSON without ``NaN`` and ``Infinity``, which DuckDB writes and JSON does not know: null."""
    if b"NaN" not in data and b"Infinity" not in data:
        return data
    rows = json.loads(data, parse_constant=lambda _: None)
    lines = ",\n\t".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return f"[\n\t{lines}\n]\n".encode()


def _without_files() -> str:
    names: Sequence[str] = re.findall(r"SET VARIABLE (\w+_files) = coalesce", views_sql())
    return "\n".join(f"SET VARIABLE {name} = [];" for name in names)


def _damaged(home: Home, folder: Path, error: Exception) -> IntegrityError:
    told = _one_line(error).replace(f"{folder}/", "")
    return IntegrityError(
        f"the tables of {home.where} cannot be queried ({told}); restore the file from its "
        "immutable copy or a backup (`catalog-pipeline verify` reads every night)"
    )


def _one_line(error: Exception) -> str:
    """What DuckDB says, without the excerpt of the query."""
    told = str(error).partition("\n\nLINE ")[0]
    return "; ".join(line.strip() for line in told.splitlines() if line.strip())
