"""The figures of every night that has a report: one JSON object, so that no manifest is read again.

``reports/nights/figures.json`` maps a day to the numbers of its line on the page of all nights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import date
from typing import TYPE_CHECKING

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.objects import until_won
from catalog_pipeline.workflows.home import Home

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.nights_index import NightFigures

FIGURES_KEY = "reports/nights/figures.json"


def keep_figures(home: Home, figures: NightFigures) -> list[NightFigures]:
    """Put the figures of one night in the place of its earlier ones; returns all, oldest first.

    Atomic: of two writers none loses the other's night. Nothing is written where nothing
    changes.

    Raises:
        IntegrityError: the object is damaged.
    """

    def attempt() -> list[NightFigures]:
        nights, token = _read(home)
        before = nights.get(figures.day)
        nights[figures.day] = figures
        ordered = [nights[day] for day in sorted(nights)]
        if before != figures:
            home.objects.compare_and_swap(FIGURES_KEY, _encode(ordered), token)
        return ordered

    return until_won(attempt, FIGURES_KEY)


def read_figures(home: Home) -> list[NightFigures]:
    """The figures of every night that was kept, oldest first.

    Raises:
        IntegrityError: the object is damaged.
    """
    nights, _ = _read(home)
    return [nights[day] for day in sorted(nights)]


def _encode(nights: list[NightFigures]) -> bytes:
    content = [{**asdict(night), "day": night.day.isoformat()} for night in nights]
    return json.dumps(content, indent=0, sort_keys=True).encode() + b"\n"


def _read(home: Home) -> tuple[dict[date, NightFigures], str | None]:
    from catalog_pipeline.evaluation.nights_index import NightFigures

    try:
        stored = home.objects.read(FIGURES_KEY)
    except ObjectNotFoundError:
        return {}, None
    try:
        nights = [NightFigures(**entry) for entry in json.loads(stored.data)]
        dated = [replace(night, day=date.fromisoformat(str(night.day))) for night in nights]
    except (ValueError, TypeError) as error:
        raise IntegrityError(
            f"{home.objects.uri(FIGURES_KEY)} does not hold figures of nights ({error}); delete "
            "it, then run `catalog-pipeline report --all`"
        ) from error
    return {night.day: night for night in dated}, stored.version
