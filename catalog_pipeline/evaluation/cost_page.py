"""The HTML page of a cost report: every money figure beside the prices that it was counted with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catalog_pipeline.evaluation.charts import cost_against_tasks
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
_LEAST = 0.0001
"""Of money: less is told as less."""
_NONE = "–"


def render_cost_report(report: CostReport) -> str:
    """One self-contained HTML file: no link, no script and no picture from elsewhere."""
    prices = report.prices
    dearest = sorted(report.skus, key=lambda sku: (-sku.machine_cost, sku.sku))
    template = page_templates().get_template("cost_report.html.j2")
    return template.render(
        report=report,
        prices=prices,
        hour=machine_cost(3600, prices),
        energy=energy_kwh(report.seconds, prices),
        skus=dearest[:SKUS_SHOWN],
        nights=list(report.nights)[::-1][:NIGHTS_SHOWN],
        growth=[_growth(each) for each in report.growth],
        money=lambda value: money(value, prices.currency),
        price=lambda value: price(value, prices.currency),
        month=lambda stored: money(storage_cost_month(stored, prices), prices.currency),
        took=took,
        size=size,
    )


def money(value: float | None, currency: str) -> str:
    """``12.30 EUR``; of less than 1 three figures; ``< 0.0001 EUR``; a dash for none."""
    if value is None:
        return _NONE
    if 0 < value < _LEAST:
        return f"< {_LEAST:g} {currency}"
    amount = f"{value:.3g}" if 0 < abs(value) < 1 else f"{value:,.2f}"
    return f"{amount} {currency}"


def price(value: float, currency: str) -> str:
    """As it was set, never rounded: ``0.10 EUR``, ``0.025 EUR``."""
    amount = f"{value:.2f}" if round(value, 2) == value else f"{value:.10g}"
    return f"{amount} {currency}"


def took(seconds: float | None) -> str:
    """``0.4 s``, ``90 s``, ``12.5 min``, ``3.4 h``; a dash for none."""
    if seconds is None:
        return _NONE
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def size(stored_bytes: float | None) -> str:
    """``412 kB``; a dash for none."""
    if stored_bytes is None:
        return _NONE
    for unit in ("B", "kB", "MB", "GB"):
        if stored_bytes < 999.5:
            return f"{stored_bytes:.3g} {unit}"
        stored_bytes /= 1000
    return f"{stored_bytes:.3g} TB"


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
    series: dict[str, Sequence[tuple[int, float]]] = {
        "measured": [(n + 1, value) for n, value in growth.points[::every]]
    }
    last = max(n for n, _ in growth.points)
    first_value, last_value = growth.at(0), growth.at(last)
    if first_value is not None and last_value is not None:
        series["line"] = [(1, first_value), (last + 1, last_value)]
    return cost_against_tasks(series, "bytes" if growth.unit == "bytes" else "seconds")
