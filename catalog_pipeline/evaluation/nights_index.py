"""The page of all nights: a line each, the newest first, and how many pictures they made."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from catalog_pipeline.evaluation.html_pages import page_templates
from catalog_pipeline.evaluation.page_texts import PageTexts

NIGHTS_DRAWN = 60
"""Nights in the chart, the latest ones."""

_LINES = 4


@dataclass(frozen=True)
class NightFigures:
    """A night in numbers.

    ``judged`` counts the products of all judged pictures and ``found`` those of them that
    were there; ``failed`` are pictures that could not be made. Times are in seconds.
    """

    day: date
    published: int
    held_back: int
    failed: int
    learned: int
    refused: int
    found: int
    judged: int
    to_do: int
    learning_seconds: float
    rendering_seconds: float


def night_page(day: date) -> str:
    """The file name of a night's report, beside the index."""
    return f"dt={day.isoformat()}.html"


def render_nights(
    nights: Iterable[NightFigures], language: str = "en", gone: Collection[date] = ()
) -> str:
    """A self-contained HTML page without a script; its links lead to the nights' reports.

    Those of the nights in ``gone`` are no longer kept; their figures are.
    """
    texts = PageTexts(language)
    newest_first = sorted(nights, key=lambda night: night.day, reverse=True)
    template = page_templates().get_template("nights_index.html.j2")
    return template.render(
        texts=texts,
        nights=[_line(night, texts, night.day not in gone) for night in newest_first],
        chart=_chart(newest_first[:NIGHTS_DRAWN][::-1], texts),
    )


def _line(night: NightFigures, texts: PageTexts, has_page: bool) -> dict[str, Any]:
    unknown = texts.say("report.unknown")
    return {
        "figures": night,
        "href": night_page(night.day) if has_page else "",
        "day": texts.day(night.day),
        "pass_rate": f"{night.found / night.judged:.0%}" if night.judged else unknown,
        "time": texts.seconds(night.learning_seconds + night.rendering_seconds),
    }


def _chart(nights: Sequence[NightFigures], texts: PageTexts) -> dict[str, Any] | None:
    """Heights in per cent of the plot, oldest night first; ``None`` for fewer than two nights."""
    if len(nights) < 2:
        return None
    most = max(1, *(night.published + night.held_back for night in nights))
    step = _round_step(most)
    top = step * math.ceil(most / step)
    bars = [
        {
            "published": round(100 * night.published / top, 2),
            "held": round(100 * night.held_back / top, 2),
            "title": f"{texts.day(night.day)}: {_counts(night, texts)}",
        }
        for night in nights
    ]
    lines = [{"value": v, "height": round(100 * v / top, 2)} for v in range(0, top + 1, step)]
    ends = dict.fromkeys((nights[0].day, nights[len(nights) // 2].day, nights[-1].day))
    return {"bars": bars, "lines": lines, "dates": [day.isoformat() for day in ends]}


def _counts(night: NightFigures, texts: PageTexts) -> str:
    published = texts.count("report.published", night.published)
    return texts.listed([published, texts.count("report.held", night.held_back)])


def _round_step(most: int) -> int:
    """1, 2 or 5 times a power of ten, so that about :data:`_LINES` lines reach ``most``."""
    raw = max(1.0, most / _LINES)
    power = 10 ** math.floor(math.log10(raw))
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw))
