"""The commands that write pages for people: about nights, and about what things cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from catalog_pipeline.cli.commands import (
    ConfigOption,
    HomeOption,
    LanguageOption,
    LatestDayOption,
    _folder,
    app,
    chosen_home,
    existing_home,
)
from catalog_pipeline.cli.failures import stop
from catalog_pipeline.cli.report import as_json as as_json_text

if TYPE_CHECKING:
    from catalog_pipeline.workflows.upkeep.cost_report import WrittenCosts


@app.command()
def report(
    day: LatestDayOption = None,
    every: Annotated[bool, typer.Option("--all", help="Of every night.")] = False,
    lang: LanguageOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Write the report of a night and print its path.

    One HTML page: what came of the night, what to do next, new and refused products, the
    worst pictures, errors and times. `generate` writes it, too. The page of all nights,
    index.html, lies beside it.
    """
    if every and day is not None:
        raise typer.BadParameter("--all goes without --day")
    from catalog_pipeline.workflows.night.night_report import reported_days, write_night_report

    opened = chosen_home(config, home)
    nights = [day] if day else reported_days(opened)
    if not nights:
        stop(
            f"error: nothing was learned or rendered in {opened.where}; run `learn` and "
            "`generate` first"
        )
    for night in nights if every else nights[-1:]:
        typer.echo(write_night_report(opened, night, language=lang))


@app.command("cost-report")
def cost_report(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            parser=_folder,
            help="Write page and tables there. [default: reports/cost of the home]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Write what learning and pictures cost, and print it.

    From what this home has measured: the learning log, manifests, quarantine and the sizes of what
    is stored, at the prices of governance.yaml. One HTML page, and Parquet tables of products and
    of days. What was not measured is said to be missing.
    """
    from catalog_pipeline.workflows.upkeep.cost_report import write_cost_report
    from catalog_pipeline.workflows.upkeep.destinations import check_destination

    opened = existing_home(config, home)
    if out is not None:
        check_destination(opened.settings, out)
    written = write_cost_report(opened, out)
    if as_json:
        paths = {name: str(path) for name, path in written.paths.items()}
        typer.echo(as_json_text({**written.report.to_record(), "files": paths}))
    else:
        typer.echo("\n".join(cost_lines(written)))


def cost_lines(written: WrittenCosts) -> list[str]:
    """The totals, what others would ask, what is missing, and where the files are."""
    from catalog_pipeline.evaluation.amounts import count, money, price, size, took

    found = written.report
    currency = found.prices.currency

    def shown(value: float | None) -> str:
        return money(value, currency)

    lines = [
        f"machine    {shown(found.cost)} so far: learning {took(found.learning_seconds)} "
        f"({took(found.refused_seconds)} of it failed), rendering {took(found.rendering_seconds)} "
        f"({took(found.unused_seconds)} of it not published)",
        f"product    {shown(found.cost_per_sku)} each of {count(found.learned_skus)} learned",
        f"picture    {shown(found.cost_per_picture)} each of {count(found.published)} published, "
        f"with learning {shown(found.full_cost_per_picture)}",
        f"storage    {shown(found.storage_cost_month)} a month for {size(found.stored_bytes)}",
    ]
    for other in found.alternatives:
        hours = "" if other.hours is None else f", {other.hours:,.1f} h of work"
        lines.append(f"instead    {other.name}: {shown(other.asked)}{hours} for {other.counted}")
    prices = found.prices
    hour, kwh, storage = (
        price(each, currency)
        for each in (
            prices.machine_price_per_hour,
            prices.price_per_kwh,
            prices.storage_price_per_gb_month,
        )
    )
    lines.append(
        f"prices     {hour} an hour and {prices.watts:g} W at {kwh} a kWh, {storage} a GB and "
        "month (governance.yaml)"
    )
    lines += [f"missing    {line}" for line in found.missing]
    return lines + [str(path) for path in written.paths.values()]
