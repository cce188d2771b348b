"""The command that takes in a product feed, and its lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catalog_pipeline.cli import report
from catalog_pipeline.cli.commands import ConfigOption, HomeOption, _folder, app, chosen_home
from catalog_pipeline.cli.failures import FAILED
from catalog_pipeline.cli.progress import open_progress

if TYPE_CHECKING:
    from catalog_pipeline.catalog.feeds.products import RowRemark
    from catalog_pipeline.workflows.catalog.import_feed import CheckedFeed, ProductOutcome

_WARNINGS_AT_MOST = 20


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not (equals and field.strip() and column.strip()):
        raise typer.BadParameter(f"{text!r}; expected FIELD=COLUMN such as sku=Article")
    return field.strip(), column.strip()


@app.command("import-feed")
def import_feed(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", parser=_folder, help="A .csv, .tsv, .parquet or .xlsx."),
    ],
    photos: Annotated[
        str,
        typer.Option(
            "--photos",
            metavar="ROOT",
            help="What photo paths are relative to: a folder, or s3://bucket/prefix of a bucket "
            "catalog. [default: the feed's folder; of a bucket catalog the bucket]",
        ),
    ] = "",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="FIELD=COLUMN",
            help="Where a field stands, such as sku=Article or names.ja=品名; may be repeated.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every row; write nothing.")
    ] = False,
    overwrite_cards: Annotated[
        bool,
        typer.Option("--overwrite-cards", help="Replace cards that were edited by hand, too."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Take in a table of products.

    With own column names, those of Google Merchant or of Shopify; a folder with photos and a
    card for each product. Every row is checked first; good ones are imported, and the exit
    status is 1 when one is wrong. Safe to interrupt and to run again; the same feed again
    writes nothing.
    """
    from catalog_pipeline.workflows.catalog.import_feed import FeedImport, FeedSource

    source = FeedSource(file, photos.strip(), dict(map(_pair, columns or ())))
    run = FeedImport(chosen_home(config, home), source, overwrite_cards=overwrite_cards)
    with closing(run), open_progress() as progress:
        checked = run.check(progress)
        if not as_json:
            _echo(_heading_lines(checked))
        todo = [outcome for outcome in checked.outcomes if outcome.status != "unchanged"]
        done, failed = _told(todo if dry_run else run.write(checked, progress), quiet=as_json)
    if as_json:
        typer.echo(report.as_json(_record(checked, done, failed, dry_run=dry_run)))
    else:
        _echo(_closing_lines(checked, done, failed, dry_run=dry_run))
    if checked.wrong or failed:
        raise typer.Exit(FAILED)


def _told(
    outcomes: Iterable[ProductOutcome | RowRemark], *, quiet: bool
) -> tuple[list[ProductOutcome], list[RowRemark]]:
    """What was done and what failed, each printed as soon as it is known."""
    from catalog_pipeline.workflows.catalog.import_feed import ProductOutcome

    done: list[ProductOutcome] = []
    failed: list[RowRemark] = []
    for outcome in outcomes:
        if isinstance(outcome, ProductOutcome):
            done.append(outcome)
            line = _product_line(outcome)
        else:
            failed.append(outcome)
            line = _wrong(outcome)
        if not quiet:
            typer.echo(line)
    return done, failed


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _heading_lines(checked: CheckedFeed) -> list[str]:
    """What holds of the whole feed, then the rows that are wrong."""
    lines = []
    if checked.columns.ignored:
        lines.append(f"columns not read: {', '.join(checked.columns.ignored)}")
    lines += [f"warning    {note}" for note in checked.notes]
    lines += [f"warning    {remark}" for remark in checked.warnings[:_WARNINGS_AT_MOST]]
    if len(checked.warnings) > _WARNINGS_AT_MOST:
        more = len(checked.warnings) - _WARNINGS_AT_MOST
        lines.append(f"warning    {more} more; --json has each")
    return lines + [_wrong(remark) for remark in checked.wrong]


def _wrong(remark: RowRemark) -> str:
    return f"wrong      {remark}"


def _product_line(outcome: ProductOutcome) -> str:
    """``changed    mug-2: card, +1 photo (side.jpg); stays by hand: own.jpg``."""
    parts = ["card"] if outcome.card else []
    for sign, names in (("+", outcome.added), ("~", outcome.replaced), ("-", outcome.removed)):
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            parts.append(f"{sign}{len(names)} photo{'s' * (len(names) > 1)} ({shown})")
    kept = f"; by hand, stays: {', '.join(outcome.kept)}" if outcome.kept else ""
    return f"{outcome.status:<10} {outcome.sku}: {', '.join(parts) or 'finished'}{kept}"


def _closing_lines(
    checked: CheckedFeed,
    done: Sequence[ProductOutcome],
    failed: Sequence[RowRemark],
    *,
    dry_run: bool,
) -> list[str]:
    lines = []
    unchanged = [outcome for outcome in checked.outcomes if outcome.status == "unchanged"]
    lines += [
        f"unchanged  {outcome.sku}: by hand, stays: {', '.join(outcome.kept)}"
        for outcome in unchanged
        if outcome.kept
    ]
    if plain := [outcome.sku for outcome in unchanged if not outcome.kept]:
        shown = ", ".join(plain[: report.NAMES_AT_MOST])
        more = len(plain) - report.NAMES_AT_MOST
        lines.append(f"unchanged  {shown}{f' and {more} more' if more > 0 else ''}")
    counts = Counter(outcome.status for outcome in done)
    rows = len({remark.row for remark in (*checked.wrong, *failed)})
    summary = (
        f"{counts['added']} added, {counts['changed']} changed, {len(unchanged)} unchanged, "
        f"{rows} row{'s' * (rows != 1)} wrong"
    )
    lines.append(f"{summary}; dry run, nothing was written" if dry_run else summary)
    return lines


def _record(
    checked: CheckedFeed,
    done: Sequence[ProductOutcome],
    failed: Sequence[RowRemark],
    *,
    dry_run: bool,
) -> dict[str, Any]:
    unchanged = [outcome for outcome in checked.outcomes if outcome.status == "unchanged"]
    return {
        "dry_run": dry_run,
        "columns_not_read": list(checked.columns.ignored),
        "notes": list(checked.notes),
        "products": [asdict(outcome) for outcome in (*done, *unchanged)],
        "warnings": [asdict(remark) for remark in checked.warnings],
        "wrong": [asdict(remark) for remark in (*checked.wrong, *failed)],
    }
