"""The commands for data teams: SQL over the tables, their dictionary, pictures as data sets."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from catalog_pipeline.cli import report
from catalog_pipeline.cli.commands import (
    ConfigOption,
    HomeOption,
    _day,
    _folder,
    app,
    chosen_home,
)
from catalog_pipeline.cli.data_tables import ROWS_AT_MOST, columns_text, result_text
from catalog_pipeline.cli.progress import open_progress

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

_STDOUT = ("-", "/dev/stdout")


@app.command()
def query(
    sql: Annotated[
        str | None,
        typer.Argument(metavar="[SQL]", help="One SELECT. [default: list the views]"),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", parser=_folder, help="Read the SQL from a file."),
    ] = None,
    form: Annotated[
        Literal["table", "csv", "json", "parquet"] | None,
        typer.Option("--format", help="[default: by the ending of --out, else table]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", parser=_folder, help="Write it there."),
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Ask the published tables something in SQL.

    DuckDB over the views images, products, scores, nights, coverage, lineage and others, as they
    are at this moment, also while a night is published. It only reads. Without SQL the views
    and their columns are listed.
    """
    if sql is not None and file is not None:
        raise typer.BadParameter("give the SQL or --file, not both")
    text = file.read_text("utf-8") if file is not None else sql
    chosen = form or _format_of(out)
    if text is None:
        if form is not None or out is not None:
            raise typer.BadParameter("--format and --out go with a query; none was given")
        from catalog_pipeline.workflows.upkeep.query import describe_views

        typer.echo(columns_text(describe_views()))
        return
    opened = chosen_home(config, home)
    if out is not None and out.as_posix() not in _STDOUT:
        from catalog_pipeline.workflows.upkeep.destinations import check_destination

        check_destination(opened.settings, out)
    if chosen == "table":
        _show(opened, text, out)
        return
    from catalog_pipeline.workflows.upkeep.query import query_as_file

    if chosen == "parquet" and out is None and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is no text; give --out FILE")
    _deliver(query_as_file(opened, text, chosen), out)


def _show(opened: Home, text: str, out: Path | None) -> None:
    """Each query of ``text`` as a table; a file gets as many rows as the screen."""
    from catalog_pipeline.workflows.upkeep.query import query_as_text

    told = "\n\n".join(result_text(r) for r in query_as_text(opened, text, ROWS_AT_MOST))
    if out is None:
        typer.echo(told)
    else:
        _deliver(f"{told}\n".encode(), out)


def _format_of(out: Path | None) -> Literal["table", "csv", "json", "parquet"]:
    endings: dict[str, Literal["csv", "json", "parquet"]] = {
        ".csv": "csv",
        ".json": "json",
        ".parquet": "parquet",
    }
    return "table" if out is None else endings.get(out.suffix.lower(), "table")


def _deliver(data: bytes, out: Path | None) -> None:
    if out is None or out.as_posix() in _STDOUT:
        typer.echo(data, nl=False)
        return
    from catalog_pipeline.workflows.upkeep.destinations import is_stream, write_file

    write_file(out, data)
    typer.echo(f"{out}: {len(data)} bytes", err=is_stream(out))


@app.command()
def dictionary(
    form: Annotated[
        Literal["markdown", "json", "sql"],
        typer.Option("--format", help="For people, for programs, or the views as DuckDB's SQL."),
    ] = "markdown",
) -> None:
    """Print what every table and column means.

    The Parquet files that are published, and the views over them. `--format sql` prints the
    views themselves, which run in DuckDB without this program.
    """
    from catalog_pipeline.workflows.upkeep import data_dictionary
    from catalog_pipeline.workflows.upkeep.query import views_sql

    if form == "sql":
        typer.echo(views_sql(), nl=False)
        return
    tables = data_dictionary.data_dictionary()
    if form == "json":
        typer.echo(report.as_json(data_dictionary.as_record(tables)))
    else:
        typer.echo(data_dictionary.as_markdown(tables))


@app.command("export-images")
def export_images(
    form: Annotated[
        Literal["webdataset", "imagefolder", "coco", "card"],
        typer.Option("--format", help="What to write; card prints the dataset card alone."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", parser=_folder, help="Where to; absent or empty."),
    ] = None,
    days: Annotated[
        list[date] | None,
        typer.Option(
            "--day", metavar="YYYY-MM-DD", parser=_day, help="Only this night; may be repeated."
        ),
    ] = None,
    skus: Annotated[
        list[str] | None,
        typer.Option(
            "--sku", metavar="SKU", help="Only pictures that name it or another; may be repeated."
        ),
    ] = None,
    where: Annotated[
        str,
        typer.Option("--where", metavar="SQL", help="A condition over the view images."),
    ] = "",
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Write current pictures as a data set.

    WebDataset, an ImageFolder of Hugging Face, or COCO boxes, each with a dataset card
    (README.md). The folder appears complete or not at all; the same pictures give the same
    bytes.
    """
    from catalog_pipeline.workflows.upkeep.export_images import Selection, card_of
    from catalog_pipeline.workflows.upkeep.export_images import export_images as write

    if (form == "card") != (out is None):
        raise typer.BadParameter("--out FOLDER goes with every format but card, which is printed")
    selection = Selection(tuple(days or ()), tuple(skus or ()), where)
    opened = chosen_home(config, home)
    if form == "card" or out is None:
        typer.echo(card_of(opened, selection), nl=False)
        return
    with open_progress() as progress:
        written = write(opened, out, form=form, selection=selection, progress=progress)
    typer.echo(
        f"{written.pictures} pictures in {written.folder}: "
        f"{written.files} files, {written.bytes / 1e6:.1f} MB"
    )
