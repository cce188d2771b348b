"""What the cells of a study say: means with intervals, differences, a recommendation. Pure.

Intervals are percentile bootstraps over products (Efron, "Bootstrap methods: another look at the
jackknife", Annals of Statistics 7, 1979): products are what another catalog would have others of.
Differences are paired, product by product. Each interval is of one comparison; none is corrected
for how many there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from catalog_pipeline.records import StudyCell, StudyRow

LEVEL = 0.95
RESAMPLES = 10_000
FEWEST_PRODUCTS = 3
"""Fewer have no interval: resampling two products says nothing of a third."""

_SEED = 0


@dataclass(frozen=True)
class Interval:
    """A mean over ``products`` and what 95 in 100 resamples of them lie between.

    ``low`` and ``high`` are ``None`` for fewer than :data:`FEWEST_PRODUCTS`.
    """

    mean: float
    low: float | None
    high: float | None
    products: int

    @property
    def above_zero(self) -> bool:
        """Whether all of it lies above 0."""
        return self.low is not None and self.low > 0

    def __str__(self) -> str:
        """``+0.120 (+0.050 to +0.190)``."""
        if self.low is None or self.high is None:
            return f"{self.mean:+.3f} ({self.products} products: no interval)"
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True)
class ChoiceFigures:
    """A choice over its cells: means over seeds, then over products.

    ``likeness`` and ``forgotten`` are ``None`` where no product has a figure. ``waited_days`` is a
    mean over products and seeds, every other figure over seeds.
    """

    choice: str
    slots: str
    seeds: int
    likeness: Interval | None
    forgotten: Interval | None
    seconds: float
    tasks: float
    refused: float
    concepts: float
    stored_bytes: float
    served_bytes: float
    waited_days: float


@dataclass(frozen=True)
class Difference:
    """How much more alike products are with ``better`` than with ``other``."""

    better: str
    other: str
    interval: Interval


@dataclass(frozen=True)
class Verdict:
    """What to choose with ``slots``, by likeness at the end.

    ``recommended`` is empty where the interval of a difference to the best spans zero, or there is
    none. ``confidence`` is the share of resamples in which ``leading`` alone is the most alike.
    """

    slots: str
    leading: str
    recommended: str
    confidence: float | None
    differences: tuple[Difference, ...]
    words: str


def interval(values: Sequence[float]) -> Interval:
    """The mean of ``values``, at least one, and its interval."""
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if len(found) < FEWEST_PRODUCTS:
        return Interval(mean, None, None, len(found))
    means = found[_resamples(len(found))].mean(axis=1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), len(found))


def _resamples(products: int) -> npt.NDArray[np.int64]:
    """``(RESAMPLES, products)`` places, drawn with replacement; the same for every comparison."""
    return np.random.default_rng(_SEED).integers(products, size=(RESAMPLES, products))


def choice_figures(cells: Sequence[StudyCell]) -> list[ChoiceFigures]:
    """One a choice and kind of slots, in the order of ``cells``."""
    by_choice: defaultdict[tuple[str, str], list[StudyCell]] = defaultdict(list)
    for cell in cells:
        by_choice[cell.choice, cell.slots].append(cell)
    return [_figures(found) for found in by_choice.values()]


def _figures(cells: Sequence[StudyCell]) -> ChoiceFigures:
    first = cells[0]

    def over_seeds(read: Callable[[StudyCell], float]) -> float:
        return float(np.mean([read(cell) for cell in cells]))

    return ChoiceFigures(
        choice=first.choice,
        slots=first.slots,
        seeds=len(cells),
        likeness=_interval_of(cells, lambda row: row.likeness),
        forgotten=_interval_of(cells, lambda row: row.forgotten),
        seconds=over_seeds(lambda cell: cell.seconds),
        tasks=over_seeds(lambda cell: cell.tasks),
        refused=over_seeds(lambda cell: cell.refused),
        concepts=over_seeds(lambda cell: cell.concepts),
        stored_bytes=over_seeds(lambda cell: cell.stored_bytes),
        served_bytes=over_seeds(lambda cell: cell.served_bytes),
        waited_days=over_seeds(lambda cell: float(np.mean([r.waited_days for r in cell.rows]))),
    )


def _interval_of(
    cells: Sequence[StudyCell], read: Callable[[StudyRow], float | None]
) -> Interval | None:
    values = list(per_product(cells, read).values())
    return interval(values) if values else None


def per_product(
    cells: Sequence[StudyCell], read: Callable[[StudyRow], float | None]
) -> dict[str, float]:
    """SKU -> mean over seeds of a figure, for products that have it with every seed."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for cell in cells:
        for row in cell.rows:
            value = read(row)
            if value is not None:
                found[row.sku].append(value)
    return {sku: float(np.mean(v)) for sku, v in found.items() if len(v) == len(cells)}


def verdicts(cells: Sequence[StudyCell]) -> list[Verdict]:
    """One a kind of slots, in the order of ``cells``."""
    found = []
    for slots in dict.fromkeys(cell.slots for cell in cells):
        own = [cell for cell in cells if cell.slots == slots]
        choices = {
            choice: per_product([c for c in own if c.choice == choice], lambda row: row.likeness)
            for choice in dict.fromkeys(cell.choice for cell in own)
        }
        found.append(judge(slots, choices))
    return found


def judge(slots: str, choices: Mapping[str, Mapping[str, float]]) -> Verdict:
    """The verdict over ``choices``: choice -> SKU -> likeness; products that all have count."""
    common = sorted(set.intersection(*(set(found) for found in choices.values())))
    if len(choices) < 2 or not common:
        lacking = "only one choice was run" if len(choices) < 2 else "no product has all figures"
        return Verdict(slots, "", "", None, (), f"No recommendation: {lacking}.")
    table = np.array([[found[sku] for sku in common] for found in choices.values()])
    names = list(choices)
    best = int(table.mean(axis=1).argmax())
    differences = tuple(
        Difference(names[best], name, interval((table[best] - table[row]).tolist()))
        for row, name in enumerate(names)
        if row != best
    )
    if len(common) < FEWEST_PRODUCTS:
        words = f"No recommendation: {len(common)} products are too few for an interval."
        return Verdict(slots, names[best], "", None, differences, words)
    drawn = _resamples(len(common))
    means = np.stack([found[drawn].mean(axis=1) for found in table])  # (choices, resamples)
    confidence = float((means[best] > np.delete(means, best, axis=0).max(axis=0)).mean())
    unsure = [each for each in differences if not each.interval.above_zero]
    if (table == table[0]).all():
        words = f"No recommendation: {', '.join(names)} are equally alike, product by product."
        return Verdict(slots, names[best], "", confidence, differences, words)
    return Verdict(
        slots,
        names[best],
        "" if unsure else names[best],
        confidence,
        differences,
        _words(names[best], confidence, unsure or differences, len(common), sure=not unsure),
    )


def _words(
    best: str, confidence: float, told: Sequence[Difference], products: int, *, sure: bool
) -> str:
    listed = "; ".join(f"{each.interval} against {each.other}" for each in told)
    if sure:
        return (
            f"Recommended: {best}. Over {products} products it is the most alike: {listed}. It "
            f"leads in {confidence:.0%} of the resamples."
        )
    return (
        f"No recommendation: {best} leads, but the interval spans zero: {listed}. It leads in "
        f"{confidence:.0%} of the resamples of {products} products."
    )


@dataclass(frozen=True)
class StudyReport:
    """Everything that a study has found, and what a reader must know of it.

    ``facts`` say how it was made, ``notes`` what was left out or not run. ``pictures`` maps a SKU
    to the title of a column -> a picture as a data URI.
    """

    study: str
    cells: Sequence[StudyCell]
    facts: Mapping[str, str]
    notes: Sequence[str] = ()
    pictures: Mapping[str, Mapping[str, str]] | None = None

    @property
    def choices(self) -> list[ChoiceFigures]:
        """A line a choice."""
        return choice_figures(self.cells)

    @property
    def verdicts(self) -> list[Verdict]:
        """What to choose, a kind of slots each."""
        return verdicts(self.cells)

    @property
    def rows(self) -> list[StudyRow]:
        """Every product of every cell."""
        return [row for cell in self.cells for row in cell.rows]

    def to_record(self) -> dict[str, Any]:
        """JSON-ready; pictures are left out."""
        return {
            "study": self.study,
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "choices": [asdict(each) for each in self.choices],
            "verdicts": [asdict(each) for each in self.verdicts],
            "cells": [asdict(cell) for cell in self.cells],
        }
