"""Answers of queries and lists of columns, as tables of text."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from catalog_pipeline.workflows.upkeep.query import QueryResult, View

ROWS_AT_MOST = 1000
"""Rows of a table for people; files have all."""

_WIDEST = 10_000


def result_text(result: QueryResult) -> str:
    """The answer with a line of column names; below it how many rows are left out.

    Where the terminal is too narrow for its columns, a line a value.
    """
    more = result.count - len(result.rows)
    lines = [_upright(result) if _is_narrow(result) else _across(result)]
    if more or not result.count:
        left = f"{result.count} rows" + (f", {more} not shown; --format csv has all" * bool(more))
        lines.append(f"({left})")
    return "\n".join(line for line in lines if line)


def _across(result: QueryResult) -> str:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, numeric in zip(result.columns, result.numeric, strict=True):
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in result.rows:
        table.add_row(*(Text("-" if value is None else value) for value in row))
    return _text(table)


def _upright(result: QueryResult) -> str:
    longest = max(map(len, result.columns))
    return "\n\n".join(
        "\n".join(
            f"{name.ljust(longest)}  {'-' if value is None else value}"
            for name, value in zip(result.columns, row, strict=True)
        )
        for row in result.rows
    )


def _is_narrow(result: QueryResult) -> bool:
    """Whether a column would get less than a dozen letters of the terminal's width."""
    return sys.stdout.isatty() and 12 * len(result.columns) > shutil.get_terminal_size().columns


def columns_text(views: Iterable[View]) -> str:
    """Every view: what a row of it is, and its columns."""
    blocks = []
    for view in views:
        columns = ", ".join(name for name, _, _ in view.columns)
        body = textwrap.fill(columns, 96, initial_indent="    ", subsequent_indent="    ")
        blocks.append(f"{view.name}: {view.grain}\n{body}")
    blocks.append(
        "`catalog-pipeline dictionary` says what each column means; "
        'a query is `catalog-pipeline query "FROM nights"`'
    )
    return "\n".join(blocks)


def _text(table: Table) -> str:
    """As wide as the terminal; where the output goes elsewhere, as wide as its words."""
    from rich.console import Console

    screen = io.StringIO()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDEST
    console = Console(file=screen, width=width, color_system=None, legacy_windows=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines())
