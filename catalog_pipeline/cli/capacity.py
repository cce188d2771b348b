"""The command that plans cards, hours and storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from catalog_pipeline.cli import report
from catalog_pipeline.cli.commands import ConfigOption, HomeOption, app, chosen_home
from catalog_pipeline.cli.tables import table_lines
from catalog_pipeline.evaluation.amounts import size

if TYPE_CHECKING:
    from catalog_pipeline.workflows.upkeep.capacity import CapacityPlan, Figure


@app.command("plan-capacity")
def plan_capacity(
    new_skus: Annotated[float, typer.Option("--new-skus", help="To learn, a night.")] = 0.0,
    pictures: Annotated[float, typer.Option("--pictures", help="To render, a night.")] = 0.0,
    nights: Annotated[int, typer.Option("--nights", help="Of the plan.")] = 365,
    hours: Annotated[float, typer.Option("--hours", help="That a night has.")] = 8.0,
    skus: Annotated[
        int | None,
        typer.Option("--skus", help="Learned already. [default: as many as this home has]"),
    ] = None,
    peak: Annotated[
        float, typer.Option("--peak", help="New SKUs of the busiest night that must fit / average.")
    ] = 1.0,
    products: Annotated[float, typer.Option("--products", help="In a picture, on average.")] = 1.5,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Side by side, a card each. [default: as many as it takes]"),
    ] = None,
    collections: Annotated[
        int,
        typer.Option("--collections", help="Of the SKUs; each publishes one at a time."),
    ] = 1,
    card: Annotated[
        str | None,
        typer.Option(
            "--card",
            metavar="NAME",
            help="Whose measured points: this-machine (this home's nights), or one that comes "
            "with the program. [default: this home's where there are enough]",
        ),
    ] = None,
    seconds_per_sku: Annotated[
        float | None, typer.Option("--seconds-per-sku", help="As you measured it.")
    ] = None,
    seconds_per_picture: Annotated[
        float | None, typer.Option("--seconds-per-picture", help="Likewise.")
    ] = None,
    publish_seconds: Annotated[
        float | None,
        typer.Option("--publish-seconds", help="That a SKU holds its collection. Likewise."),
    ] = None,
    failure_rate: Annotated[
        float | None,
        typer.Option("--failure-rate", help="Share of SKUs refused. [default: this home's]"),
    ] = None,
    mtbf_hours: Annotated[
        float | None,
        typer.Option("--mtbf-hours", help="Between two crashes of a worker. [default: none]"),
    ] = None,
    price_per_hour: Annotated[
        float | None,
        typer.Option("--price-per-hour", help="Of a card. [default: that of evaluation.yaml]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Plan cards, hours, storage and money.

    At the settings of this home, from measured points: its own learning log, manifests and sizes,
    or those of a card that was measured. Every figure says how far off it was on points that were
    held out. The exit status is 0 also where no number of cards fits.
    """
    from catalog_pipeline.workflows.upkeep.capacity import Demand, Speeds, home_failure_rate
    from catalog_pipeline.workflows.upkeep.capacity import plan_capacity as plan

    opened = chosen_home(config, home)
    evaluation = opened.settings.evaluation
    demand = Demand(
        skus=len(opened.index.read()) if skus is None else skus,
        new_skus=new_skus,
        nights=nights,
        pictures=pictures,
        hours=hours,
        peak=peak,
        products=products,
        collections=collections,
        workers=workers,
        failure_rate=home_failure_rate(opened) if failure_rate is None else failure_rate,
        mtbf_hours=mtbf_hours,
        price_per_hour=evaluation.price_per_hour if price_per_hour is None else price_per_hour,
    )
    speeds = Speeds(card, seconds_per_sku, seconds_per_picture, publish_seconds)
    found = plan(opened, demand, speeds)
    currency = evaluation.currency
    typer.echo(
        report.as_json({**found.to_record(), "currency": currency})
        if as_json
        else "\n".join(plan_lines(found, currency))
    )


def plan_lines(plan: CapacityPlan, currency: str) -> list[str]:
    """The figures, the night, what it adds up to, and what to change."""
    demand = plan.demand
    lines = table_lines(
        ("figure", "value", "9 in 10 below", "error", "points", "of"),
        (_figure_cells(figure) for figure in plan.figures),
        left=True,
    )
    work = sum(plan.seconds.values())
    shares = ", ".join(f"{name} {seconds / work:.0%}" for name, seconds in plan.seconds.items())
    cautious = plan.cautious_cards or "no number"
    verdict = "fits" if plan.fits else "does not fit"
    lines += [
        "",
        f"cards      {plan.cards} side by side ({cautious} where every second is at its high end)",
        f"night      {_hours(plan.hours)} on average; the busiest {_hours(plan.busiest_hours)}, "
        f"which {verdict} {demand.hours:g} h",
        f"work       {plan.card_hours:,.0f} card hours in {demand.nights} nights: {shares}",
        f"storage    {size(sum(plan.stored_bytes.values()))}: "
        + ", ".join(f"{name} {size(stored)}" for name, stored in plan.stored_bytes.items()),
        "money      "
        + (
            "no price; --price-per-hour or evaluation.yaml"
            if plan.cost is None
            else f"{plan.cost:,.0f} {currency}".rstrip() + f" in {demand.nights} nights"
        ),
    ]
    return lines + [f"change     {line}" for line in plan.advice]


def _figure_cells(figure: Figure) -> Sequence[str]:
    show = size if figure.unit == "bytes" else _seconds
    error = "-" if figure.error is None else f"{figure.error:.0%} ({figure.left_out})"
    return (
        figure.name,
        show(figure.value),
        show(figure.high),
        error,
        str(figure.points or "-"),
        figure.source,
    )


def _hours(value: float) -> str:
    return f"{value:.1f} h" if value >= 1 else f"{value * 60:.1f} min"


def _seconds(value: float) -> str:
    return f"{value:.3g} s"
