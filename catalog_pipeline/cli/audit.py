"""The commands of accountability: the audit log, and the removal of products for good."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from catalog_pipeline.cli.commands import (
    ConfigOption,
    HomeOption,
    _folder,
    app,
    existing_home,
)
from catalog_pipeline.cli.failures import FAILED, stop

if TYPE_CHECKING:
    from catalog_pipeline.stores.audit_log import AuditEntry
    from catalog_pipeline.workflows.upkeep.remove_concept import RemovalOutcome


def _since(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no time; expected such as 2026-03-01 or 2026-03-01T12:00"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@app.command()
def audit(
    what: Annotated[
        Literal["show", "verify", "head"],
        typer.Argument(
            metavar="show|verify|head",
            help="Print entries, check the whole chain, or print its end to be written down.",
        ),
    ] = "show",
    sku: Annotated[
        str | None, typer.Option("--sku", metavar="SKU", help="show: only what concerns it.")
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", metavar="ACTION", help="show: only such entries.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            metavar="TIME",
            parser=_since,
            help="show: not older; UTC unless it has a zone.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", parser=_folder, help="show: write a .csv or .json file."
        ),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            metavar="NUMBER:HASH",
            help="verify: an end that `audit head` printed earlier must still be there.",
        ),
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Who did what, when and with which version.

    `verify` reads every entry and says which was altered, swapped or taken away; the exit status
    is then 1. The newest entries can be cut off without a trace unless an end is kept elsewhere:
    `head` prints it, `verify --expect` compares. Nothing ever deletes an entry.
    """
    from catalog_pipeline.stores.audit_chain import parse_end, verify_chain
    from catalog_pipeline.workflows.upkeep.audit_entries import entries_as_file, matching_entries

    opened = existing_home(config, home)
    if expect is not None and what != "verify":
        raise typer.BadParameter("--expect goes with verify")
    if what != "show" and (sku or action or since or out):
        raise typer.BadParameter("--sku, --action, --since and --out go with show")
    if what == "head":
        typer.echo(opened.audit.end())
        return
    if what == "verify":
        try:
            end = parse_end(expect) if expect is not None else None
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        result = verify_chain(opened.objects, end)
        for problem in result.problems:
            typer.echo(f"broken    {problem}")
        typer.echo(f"{result.entries} entries, {len(result.problems)} problems, end {result.end}")
        if result.problems:
            raise typer.Exit(FAILED)
        return
    found = matching_entries(opened, sku=sku, action=action, since=since)
    if out is not None:
        from catalog_pipeline.workflows.upkeep.destinations import check_destination, write_file

        if out.suffix not in (".csv", ".json"):
            raise typer.BadParameter(f"--out {out}: expected a name that ends in .csv or .json")
        check_destination(opened.settings, out)
        write_file(out, entries_as_file(found, out.suffix))
        typer.echo(f"{out}: {len(found)} entries")
        return
    for entry in found:
        typer.echo(_entry_line(entry))


def _entry_line(entry: AuditEntry) -> str:
    words = [entry.action.ljust(9), entry.subject, entry.version[:16]]
    words += [
        f"{name}={_shown(value)}" for name, value in entry.facts.items() if not _is_long(value)
    ]
    who = entry.signed.actor + (f" in run {entry.signed.run[:8]}" if entry.signed.run else "")
    text = " ".join(filter(None, words))
    return f"{entry.number:>7} {entry.at_utc:%Y-%m-%d %H:%M:%S} {text} ({who})"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}:{_shown(item)}" for key, item in value.items())
    return ",".join(map(_shown, value)) if isinstance(value, list | tuple) else str(value)


def _is_long(value: object) -> bool:
    return value in ("", {}, []) or len(str(value)) > 120


@app.command()
def remove(
    skus: Annotated[list[str], typer.Argument(metavar="SKU", help="Products to destroy.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")
    ] = False,
    search_pictures: Annotated[
        bool,
        typer.Option(
            "--search-pictures", help="Afterwards look for traces in the pictures of nights, too."
        ),
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Destroy all that is stored of products.

    Weights, memory, checkpoints, pictures (also those beside other products), rows, pages and
    data keys, in every version and every state; `retire` only keeps them out of what comes. The
    photo folders must be gone first. Other products stay as they are, to the bit, unless they
    share a slot (`adapter.slots: shared`): then those that were learned after it are learned
    anew. A tombstone is left in the audit log. Safe to interrupt: the same command goes on.
    Backups, exports and what Dagster has recorded are told of at the end.
    """
    from catalog_pipeline.workflows.upkeep.remove_concept import plan_removals, remove_concepts

    opened = existing_home(config, home)
    planned = plan_removals(opened, skus)
    typer.echo("\n".join(line for plan in planned for line in plan.lines))
    if dry_run:
        typer.echo("dry run: nothing was removed")
        return
    if not yes and not typer.confirm("This cannot be undone. Remove?", default=False):
        stop("nothing was removed")
    failed = False
    for outcome in remove_concepts(opened, skus, search_pictures=search_pictures):
        typer.echo("\n".join(_removal_lines(outcome)))
        failed = failed or bool(outcome.reason)
    if failed:
        raise typer.Exit(FAILED)
    typer.echo(
        "not reached: backups and copies of the home; exports (`catalog-pipeline audit show "
        "--action export`); Dagster's records of runs (its job `remove_concept` with the same SKUs)"
    )


def _removal_lines(outcome: RemovalOutcome) -> Iterator[str]:
    if outcome.reason or outcome.searched is None:
        yield f"failed    {outcome.sku}: {outcome.reason}"
        return
    gone = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in outcome.counts.items())
    yield f"removed   {outcome.sku}: {gone or 'nothing was left'}"
    for collection, fallen in outcome.fallen.items():
        yield f"          {', '.join(fallen)} of {collection}: run `catalog-pipeline learn`"
    seen = outcome.searched
    named = f"found in {len(seen.named_in)}" if seen.named_in else "found nowhere"
    yield f"          searched {seen.objects:,} objects, {seen.bytes:,} bytes: {named}"
    yield from (f"          {note}" for note in outcome.notes)
    yield f"          audit log: entry {outcome.tombstone}"
