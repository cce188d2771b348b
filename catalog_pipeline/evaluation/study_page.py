"""The HTML page of a study: the recommendation, what it rests on, and pictures to look at."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.evaluation.charts import interval_chart
from catalog_pipeline.evaluation.html_pages import data_uri, page_templates
from catalog_pipeline.evaluation.study_figures import ChoiceFigures, Interval, StudyReport

_TITLES = {
    "granularity": "How fine should concepts be?",
    "frequency": "How often should the line take in what came?",
}
_NONE = "–"


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
        choices=choices,
        verdicts=report.verdicts,
        charts=charts,
        pictures=pictures,
        columns=columns,
        names={row.sku: row.name for row in report.rows},
        show=shown,
    )


def shown(found: Interval | None) -> str:
    """``0.612 (0.55 to 0.67)``; a dash for none."""
    if found is None:
        return _NONE
    if found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ({found.low:.2f} to {found.high:.2f})"


def _chart(choices: Sequence[ChoiceFigures], attribute: str) -> bytes:
    rows = []
    for each in choices:
        found: Interval | None = getattr(each, attribute)
        if found is not None:
            rows.append((f"{each.choice}, {each.slots}", found.mean, found.low, found.high))
    return interval_chart(rows, attribute)
