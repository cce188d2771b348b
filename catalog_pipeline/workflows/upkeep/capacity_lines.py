"""Which measured points a plan goes by: of this home, of a named card, or what a person typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.capacity_fit import (
    FEWEST_POINTS,
    Fit,
    Point,
    fit_line,
    typed,
)
from catalog_pipeline.workflows.upkeep.capacity_points import (
    Card,
    columns_of,
    read_cards,
    read_home_points,
)

THIS_MACHINE = "this-machine"
"""The card whose points are the home's own."""

_OF_STORES = ("publishing", "parts", "version", "picture", "row")
"""What no accelerator makes faster or smaller: any card's points do."""


@dataclass(frozen=True)
class Speeds:
    """Where seconds come from: a card that was measured, or what a person knows of another.

    ``card`` ``None`` is this home's own points where there are enough, else the first card
    that comes with the program. Seconds that are given go before any points.
    """

    card: str | None = None
    seconds_per_sku: float | None = None
    seconds_per_picture: float | None = None
    publish_seconds: float | None = None


@dataclass(frozen=True)
class Line:
    """A fitted line, and whose points it goes through, in words."""

    fit: Fit
    source: str


def read_lines(
    home: Home, speeds: Speeds, names: Sequence[str]
) -> tuple[Mapping[str, Line], float]:
    """A line for each of ``names`` (of ``capacity_points``), and the seconds of a restart.

    A size that nobody has measured has none.

    Raises:
        ConfigurationError: the card has no points, or too few, or they are of another base; or a
            speed that is no number above 0.
        StoreError: what the home has measured cannot be read.
    """
    cards = read_cards()
    given = dict(_given(speeds))
    first = next(iter(cards.values()))
    card = first if speeds.card in (None, THIS_MACHINE) else cards.get(speeds.card or "")
    own = {} if card and speeds.card == card.name else read_home_points(home)
    lines = {}
    for name in names:
        kind = name.partition(" ")[0]
        if kind in given:
            lines[name] = Line(given[kind], "as typed")
            continue
        points = own.get(name, ())
        if len(points) >= FEWEST_POINTS and (card is not None or kind in _OF_STORES):
            lines[name] = Line(fit_line(points, columns_of(name)), "this home")
        elif kind in _OF_STORES:
            if first.points.get(name):
                lines[name] = _shipped(first, name)
        elif speeds.card == THIS_MACHINE:
            raise ConfigurationError(_too_few(name, points, cards))
        elif card is None or not card.points.get(name):
            raise ConfigurationError(_unknown(speeds.card or first.name, name, cards))
        else:
            lines[name] = _of_card(home, card, name)
    return lines, (card or first).restart_seconds


def _given(speeds: Speeds) -> Iterator[tuple[str, Fit]]:
    if speeds.seconds_per_sku is not None:
        yield "learning", typed(speeds.seconds_per_sku)
    if speeds.seconds_per_picture is not None:
        yield "rendering", typed(speeds.seconds_per_picture)
    if speeds.publish_seconds is not None:
        yield "publishing", typed(speeds.publish_seconds)


def _of_card(home: Home, card: Card, name: str) -> Line:
    base = home.settings.base_model.base_model
    if base != card.base:
        raise ConfigurationError(
            f"the points of card {card.name!r} are of base model {card.base!r}, and "
            f"base_model.yaml names {base!r}; {_WAY_OUT}"
        )
    return _shipped(card, name)


def _shipped(card: Card, name: str) -> Line:
    fit = fit_line(card.points[name], columns_of(name))
    return Line(fit, f"{card.name}, {card.sources[name]}")


_WAY_OUT = "give --seconds-per-sku and --seconds-per-picture as you measured them"


def _unknown(card: str, name: str, cards: Mapping[str, Card]) -> str:
    return (
        f"nothing was measured on card {card!r} for {name}; expected {THIS_MACHINE} or one of "
        f"{', '.join(cards)}; or {_WAY_OUT}"
    )


def _too_few(name: str, points: Sequence[Point], cards: Mapping[str, Card]) -> str:
    return (
        f"this home has measured {len(points)} points for {name}; expected at least "
        f"{FEWEST_POINTS}; learn and generate first, choose a card ({', '.join(cards)}), "
        f"or {_WAY_OUT}"
    )
