"""The HTML page of a cost report: every money figure beside the prices that it was counted with."""

from __future__ import annotations

from typing import Any

from catalog_pipeline.evaluation.amounts import count, energy, money, price, size, took
from catalog_pipeline.evaluation.charts import growth_chart
from catalog_pipeline.evaluation.costs import (
    CostReport,
    Growth,
    energy_kwh,
    machine_cost,
    storage_cost_month,
)
from catalog_pipeline.evaluation.html_pages import data_uri, page_templates

SKUS_SHOWN = 60
"""Products on the page, the dearest first; the table beside it has all."""

NIGHTS_SHOWN = 60
_POINTS_DRAWN = 500


def render_cost_report(report: CostReport) -> str:
    """One self-contained HTML file: no link, no script and no picture from elsewhere."""
    prices = report.prices
    dearest = sorted(report.skus, key=lambda sku: (-sku.machine_cost, sku.sku))
    template = page_templates().get_template("cost_report.html.j2")
    return template.render(
        report=report,
        prices=prices,
        hour=machine_cost(3600, prices),
        used=energy_kwh(report.seconds, prices),
        skus=dearest[:SKUS_SHOWN],
        nights=list(report.nights)[::-1][:NIGHTS_SHOWN],
        growth=[_growth(each) for each in report.growth],
        money=lambda value: money(value, prices.currency),
        price=lambda value: price(value, prices.currency),
        month=lambda stored: money(storage_cost_month(stored, prices), prices.currency),
        count=count,
        energy=energy,
        took=took,
        size=size,
    )


def _growth(growth: Growth) -> dict[str, Any]:
    """The curve in words, and as a chart where this home has two points or more."""
    show = size if growth.unit == "bytes" else took
    words = "too few points for a line" if growth.points else "no point yet"
    fixed, slope = growth.at(0), growth.slope
    if fixed is not None and slope is not None:
        words = f"{show(fixed)} with none before, {show(1000 * slope)} more with each 1,000 before"
        if growth.error is not None:
            words += f"; mean error {growth.error:.0%} on points that were held out"
    return {
        "name": growth.name,
        "source": growth.source,
        "points": len(growth.points),
        "words": words,
        "chart": data_uri(_chart(growth), "image/png") if len(growth.points) > 1 else None,
    }


def _chart(growth: Growth) -> bytes:
    every = -(-len(growth.points) // _POINTS_DRAWN)
    ends = (0, max(n for n, _ in growth.points))
    line = [(n, value) for n in ends if (value := growth.at(n)) is not None]
    unit = "bytes" if growth.unit == "bytes" else "seconds"
    return growth_chart(growth.points[::every], line, "products learned before", unit)
