"""Comparable cells together: the rows of a table, and their figures over seeds and orders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from catalog_pipeline.errors import ConfigurationError
from tests.benchmarks.learning.measure import MEASURES
from tests.benchmarks.learning.results import KINDS, Result, read_cells
from tests.benchmarks.learning.suites import SUITES

OURS = "ours"


@dataclass(frozen=True)
class Unfinished:
    """A cell that has been started."""

    suite: str
    label: str
    order: int
    seed: int
    finished_tasks: int
    tasks: int


@dataclass(frozen=True)
class Group:
    """Comparable cells of one suite: the same products, sizes and base."""

    suite: str
    results: tuple[Result, ...]

    @property
    def protocol(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.results[0].facts["protocol"]
        return found

    @property
    def encoders(self) -> tuple[str, ...]:
        """Those by which every cell was measured."""
        first, *others = (result.encoders for result in self.results)
        return tuple(name for name in first if all(name in names for names in others))

    @cached_property
    def rows(self) -> dict[str, list[Result]]:
        """Label -> cells, in the order of the suite; labels it does not know come last."""
        suite = SUITES.get(self.suite)
        known = [variant.label for variant in suite.variants] if suite else []
        labels = sorted(
            {result.label for result in self.results},
            key=lambda label: (known.index(label) if label in known else len(known), label),
        )
        return {label: [r for r in self.results if r.label == label] for label in labels}

    def alone(self, encoder: str, seed: int, prefix: str = "") -> float | None:
        """Mean likeness of concepts learned alone: ``ours`` after each own task, by seed.

        ``ours`` trains every concept in a slot of its own, so a sequence of it and
        learning each concept alone are the same computation.
        """
        own = [
            result.figures(encoder)[f"{prefix}own"]
            for result in self.rows.get(OURS, [])
            if result.seed == seed
        ]
        measured = [value for value in own if value is not None]
        return float(np.mean(measured)) if measured else None

    def figures(self, label: str, encoder: str) -> dict[str, list[float]]:
        """Column -> one figure a cell; columns without a figure are empty."""
        columns: dict[str, list[float]] = {}
        for result in self.rows[label]:
            found = result.figures(encoder)
            for prefix in KINDS:
                alone = self.alone(encoder, result.seed, prefix)
                final = found[f"{prefix}final"]
                found[f"{prefix}of_alone"] = final / alone if alone and final is not None else None
            for name, value in (found | result.costs()).items():
                columns.setdefault(name, [])
                if value is not None:
                    columns[name].append(value)
        return columns

    def representative(self, label: str) -> Result | None:
        """The cell whose pictures are shown: order 0 and seed 0 where there is one."""
        cells = sorted(self.rows.get(label, []), key=lambda r: (r.order, r.seed))
        return cells[0] if cells else None


def read_home(home: Path) -> tuple[list[Group], list[Unfinished]]:
    """Every cell under ``home``: the finished ones in groups, and the others.

    Raises:
        ConfigurationError: a cell was measured by other definitions.
    """
    finished: dict[tuple[str, str], list[Result]] = {}
    cells = read_cells(home)
    for result in (cell for cell in cells if cell.finished):
        found = result.last.get("measures")
        if found != MEASURES:
            raise ConfigurationError(
                f"{result.folder} was measured by definitions {found}, expected {MEASURES}; "
                "run `python -m tests.benchmarks.learning remeasure`"
            )
        key = (result.facts["suite"], json.dumps(result.facts["protocol"], sort_keys=True))
        finished.setdefault(key, []).append(result)
    groups = [Group(suite, tuple(results)) for (suite, _), results in finished.items()]
    # Of one suite, the group with most cells first.
    groups.sort(key=lambda group: (group.suite, -len(group.results)))
    return groups, [_unfinished(cell) for cell in cells if not cell.finished]


def _unfinished(cell: Result) -> Unfinished:
    return Unfinished(
        suite=cell.facts["suite"],
        label=cell.label,
        order=cell.order,
        seed=cell.seed,
        finished_tasks=len(cell.tasks),
        tasks=len(cell.skus),
    )


def missing_cells(suite: str, results: Iterable[Result]) -> list[str]:
    """What the suite asks for by default and ``results`` do not hold, in words."""
    there = {(result.label, result.order, result.seed) for result in results}
    wanted: Sequence[tuple[str, int, int]] = [
        *((variant.label, 0, 0) for variant in SUITES[suite].variants),
        *((repeat.label, repeat.order, repeat.seed) for repeat in SUITES[suite].repeats),
    ]
    return [
        f"{label} (order {o}, seed {s})" for label, o, s in wanted if (label, o, s) not in there
    ]
