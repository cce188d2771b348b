"""CSV, Parquet and Excel files as rows of text, read in bounded memory.

Every value is text. Of a CSV file it is what stands there: ``00123`` keeps its zeros. A number of
a Parquet or Excel file has no such text and gets the shortest one: ``123.0`` is ``123``, ``9.50``
is ``9.5``, and 123 in an Excel cell that shows ``00123`` (number format ``00000``) is ``00123``.
"""

from __future__ import annotations

import csv
import itertools
import re
import warnings
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from catalog_pipeline.errors import CatalogError, ConfigurationError

Row = tuple[int, tuple[str, ...]]
"""The row's number as a spreadsheet counts, the header being row 1, and its cells."""

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet", ".xlsx", ".xlsm")
_SEPARATORS = ",;\t|"
_MAX_CELL_CHARS = 4_000_000
_BATCH_ROWS = 1024
_ZEROS = re.compile(r"0+")
_SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)


@dataclass(frozen=True)
class FeedTable:
    """The columns of a feed and, once, its rows; a row may be shorter or longer than the header."""

    columns: tuple[str, ...]
    rows: Iterator[Row]


@contextmanager
def open_feed(path: Path) -> Iterator[FeedTable]:
    """Open the feed at ``path``; its ending says what it is.

    Raises:
        ConfigurationError: an unknown ending, no header, text that is neither UTF-8 nor UTF-16,
            quotes that do not close, or Excel without the extra ``excel``; iterating may raise
            it too.
        CatalogError: there is no such file, or it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigurationError(
            f"{path} ends in {suffix or 'nothing'}; expected a feed that ends in "
            f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}; export it as one of these"
        )
    read = _read_text if suffix in TEXT_SUFFIXES else _READERS[suffix]
    with closing(_explaining(path, read(path))) as rows:
        header = next((cells for _, cells in rows if any(cells)), None)
        if header is None:
            raise ConfigurationError(
                f"{path} is empty; expected a first row with the names of the columns"
            )
        yield FeedTable(tuple(" ".join(name.split()) for name in header), rows)


def _explaining(path: Path, rows: Generator[Row]) -> Generator[Row]:
    """``rows``, and what goes wrong while they are read in words."""
    try:
        with closing(rows):
            yield from rows
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path} is not {error.encoding.upper()} text; expected UTF-8 or UTF-16; save it as "
            "'CSV UTF-8'"
        ) from error
    except csv.Error as error:
        raise ConfigurationError(
            f"{path} is not well-formed CSV: {error}; expected values that hold the separator, a "
            'quote or a line break in quotes, and a quote inside them doubled ("")'
        ) from error
    except OSError as error:
        raise CatalogError(
            f"cannot read {path}: {error.strerror or error}; expected a CSV, Parquet or Excel file"
        ) from error


# --- CSV ---------------------------------------------------------------------


def _read_text(path: Path) -> Generator[Row]:
    with path.open("rb") as file:
        start = file.read(4)
    with path.open(encoding=_encoding(start), newline="") as text:
        separator, skipped = _separator(path, text)
        csv.field_size_limit(_MAX_CELL_CHARS)  # descriptions in HTML are longer than its default
        reader = csv.reader(text, delimiter=separator, strict=True)
        number = skipped
        try:
            for number, cells in enumerate(reader, 1 + skipped):
                yield number, tuple(cells)
        except csv.Error as error:
            raise csv.Error(f"row {number + 1}: {error}") from error


def _encoding(start: bytes) -> str:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(start) > 3 and 0 in (start[0], start[1]):  # UTF-16 without its mark
        return "utf-16-le" if start[1] == 0 else "utf-16-be"
    return "utf-8-sig"


def _separator(path: Path, text: IO[str]) -> tuple[str, int]:
    """The separator under which the header has most columns, and how many rows to skip.

    Leaves ``text`` before the header. A first line ``sep=;``, which Excel writes, is obeyed.
    """
    first = text.readline()
    stated = _SEPARATOR_LINE.fullmatch(first.rstrip("\r\n"))
    if stated:
        return stated[1], 1
    text.seek(0)
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t", 0
    widths = {}
    for candidate in _SEPARATORS:
        reader = csv.reader(itertools.chain([first], text), delimiter=candidate)
        try:
            widths[candidate] = len(next(reader, []))
        except csv.Error:
            widths[candidate] = 0
        text.seek(0)
        first = text.readline()
    text.seek(0)
    return max(widths, key=lambda candidate: widths[candidate]), 0


# --- Parquet -----------------------------------------------------------------


def _read_parquet(path: Path) -> Generator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # As in stores/schemas.py no thread of Arrow is started, because such a thread may abort a
        # process that ends. Those schemas are fixed; a feed brings its own.
        parquet = pq.ParquetFile(path, pre_buffer=False)  # noqa: TID251
        with parquet:
            names = parquet.schema_arrow.names
            yield 1, tuple(names)
            number = 1
            for batch in parquet.iter_batches(_BATCH_ROWS, use_threads=False):
                columns = [batch.column(place).to_pylist() for place in range(len(names))]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield number, tuple(as_text(value) for value in values)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ConfigurationError(
            f"{path} is not a readable Parquet file: {' '.join(str(error).split())}; expected one; "
            "export it again"
        ) from error


# --- Excel -------------------------------------------------------------------


def _read_excel(path: Path) -> Generator[Row]:
    try:
        import openpyxl
    except ImportError as error:
        raise ConfigurationError(
            f"{path} is an Excel file, but openpyxl is not installed; install "
            "catalog-pipeline[excel], or save the sheet as CSV"
        ) from error
    from xml.etree.ElementTree import ParseError
    from zipfile import BadZipFile

    try:
        with warnings.catch_warnings():  # of styles and extensions, which are not read
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        with closing(book):
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # some programs write wrong ones
            for number, cells in enumerate(sheet.iter_rows(), 1):
                yield number, tuple(map(_excel_text, cells))
    except (BadZipFile, ParseError, zlib.error, EOFError, KeyError, ValueError) as error:
        raise ConfigurationError(
            f"{path} is not a readable Excel file: {' '.join(str(error).split())}; expected an "
            ".xlsx workbook; save it again"
        ) from error


def _excel_text(cell: Any) -> str:
    value = cell.value
    if isinstance(value, float):
        value = float(f"{value:.15g}")  # the digits that Excel keeps
    text = as_text(value)
    if isinstance(value, int | float) and _ZEROS.fullmatch(cell.number_format or ""):
        return text.zfill(len(cell.number_format))
    return text


def as_text(value: Any) -> str:
    """The text of a value that has a type: whole numbers without ``.0``, a list line by line."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:  # pandas writes a missing number as NaN
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, datetime):
        return value.isoformat().removesuffix("T00:00:00")
    if isinstance(value, Sequence):
        return "\n".join(as_text(item) for item in value)
    return str(value)


_READERS = {".parquet": _read_parquet, ".xlsx": _read_excel, ".xlsm": _read_excel}
