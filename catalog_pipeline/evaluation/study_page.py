"""The HTML page of a study: the recommendation, what it rests on, and pictures to look at."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.evaluation.amounts import NONE, count, size, took
from catalog_pipeline.evaluation.charts import interval_chart
from catalog_pipeline.evaluation.html_pages import data_uri, page_templates
from catalog_pipeline.evaluation.study_figures import ChoiceFigures, Interval, StudyReport

_TITLES = {
    "granularity": "How fine should concepts be?",
    "frequency": "How often should the line take in what came?",
}
_MEANS = {
    "granularity": (
        "sku: a concept for each product. family: one for products that differ by colour or size. "
        "category: one for all of a category. equal steps: trained as long as its products alone"
    ),
    "frequency": (
        "each: an update for every delivery. nightly, weekly: at the end of each day or week with "
        "deliveries"
    ),
}
"""What the choices are, for who has not read the manual."""
_SLOTS = {"per_concept": "each concept in a slot of its own", "shared": "one slot shared by all"}


def render_study(report: StudyReport) -> str:
    """One self-contained HTML file: no link, no script and no picture from elsewhere."""
    choices = report.choices
    pictures = report.pictures or {}
    columns = list(dict.fromkeys(name for found in pictures.values() for name in found))
    charts = [
        (title, data_uri(_chart(choices, attribute), "image/png"))
        for title, attribute in (("likeness at the end", "likeness"), ("forgotten", "forgotten"))
        if any(getattr(each, attribute) for each in choices)
    ]
    template = page_templates().get_template("study.html.j2")
    return template.render(
        report=report,
        title=_TITLES[report.study],
        means=_MEANS[report.study],
        slots=_SLOTS,
        choices=choices,
        verdicts=report.verdicts,
        charts=charts,
        pictures=pictures,
        columns=columns,
        names={row.sku: row.name for row in report.rows},
        show=shown,
        count=count,
        size=size,
        took=took,
    )


def shown(found: Interval | None) -> str:
    """``0.612 (0.55 to 0.67)``; a dash for none."""
    if found is None:
        return NONE
    if found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ({found.low:.2f} to {found.high:.2f})"


def _chart(choices: Sequence[ChoiceFigures], attribute: str) -> bytes:
    one_kind = len({each.slots for each in choices}) == 1
    rows = []
    for each in choices:
        found: Interval | None = getattr(each, attribute)
        if found is not None:
            name = each.choice if one_kind else f"{each.choice}, {each.slots}"
            rows.append((name, found.mean, found.low, found.high))
    return interval_chart(rows, attribute)
