"""Finished cells read back from a home, and their figures over seeds and orders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.evaluation.contact_sheet import decode_png
from catalog_pipeline.evaluation.retention import RetentionMatrix, fidelity_share
from catalog_pipeline.records import Pixels
from tests.benchmarks.learning.measure import MEASURES, measured_concepts
from tests.benchmarks.learning.suites import SUITES

OURS = "ours"
KINDS = {"": ("crops", "crop_ceilings"), "whole_": ("fidelity", "ceilings")}
"""Prefix of a figure -> its likeness in a task, and the photos' own: of the product cut out of
the pictures, and of whole pictures."""
EARLY_TASK = 5
"""Costs of the last tasks are compared with those around this one."""


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
class Result:
    """A cell, finished or not: ``facts`` of ``cell.json``, ``tasks`` by number."""

    folder: Path
    facts: Mapping[str, Any]
    tasks: Mapping[int, Mapping[str, Any]]

    @property
    def label(self) -> str:
        return str(self.facts["variant"]["label"])

    @property
    def order(self) -> int:
        return int(self.facts["order"])

    @property
    def seed(self) -> int:
        return int(self.facts["seed"])

    @property
    def skus(self) -> tuple[str, ...]:
        return tuple(self.facts["skus"])

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names; the first one is the methods' own."""
        return tuple(self.facts["ceilings"])

    @property
    def without_crops(self) -> set[str]:
        """Products whose photos cannot be cut out."""
        return set(self.skus) - self.facts["crop_ceilings"][self.encoders[0]].keys()

    @property
    def finished(self) -> bool:
        return len(self.skus) in self.tasks

    @property
    def last(self) -> Mapping[str, Any]:
        return self.tasks[len(self.skus)]

    @property
    def in_sequence(self) -> bool:
        """False for a method that was given everything at once."""
        return len(self.tasks) == len(self.skus)

    def matrix(
        self, encoder: str, kind: str = "crops", *, everything: bool = False
    ) -> RetentionMatrix:
        """``R[k, j]`` of ``crops``, or of whole pictures (``fidelity``).

        Only what every method of the suite measures, unless ``everything``.
        Forgetting takes the best earlier figure, so methods that were measured more
        often would seem to forget more.
        """
        matrix = RetentionMatrix(self.skus)
        count = len(self.skus)
        for number, task in self.tasks.items():
            wanted = measured_concepts(number, count, full_matrix=everything)
            names = {self.skus[index] for index in wanted}
            found = {s: f[encoder] for s, f in task[kind].items() if s in names}
            matrix.record(self.skus[number - 1], found)
        return matrix

    def figures(self, encoder: str) -> dict[str, float | None]:
        """One figure for each column of the tables."""
        confusion = self.last["confusion"][encoder]
        return {
            **{prefix + k: v for prefix in KINDS for k, v in self._kept(prefix, encoder).items()},
            "drift": self.last["drift"][encoder],
            "text": self.last["text_following"].get(encoder),
            "recognised": confusion["accuracy"],
            "same_class": confusion["same_class"],
        }

    def _kept(self, prefix: str, encoder: str) -> dict[str, float | None]:
        """How alike the products were and are; ``None`` for what was not measured."""
        kind, of_photos = KINDS[prefix]
        final = {sku: found[encoder] for sku, found in self.last[kind].items()}
        if not final:  # no product whose photos can be cut out
            return dict.fromkeys(("own", "final", "forgetting", "share"))
        matrix, ceilings = self.matrix(encoder, kind), self.facts[of_photos][encoder]
        return {
            "own": matrix.after_own_task if self.in_sequence else None,
            "final": matrix.final_mean,
            "forgetting": matrix.forgetting if self.in_sequence else None,
            "share": float(np.mean([fidelity_share(f, ceilings[s]) for s, f in final.items()])),
        }

    @property
    def cpu_seconds(self) -> float:
        """Of learning, all tasks together."""
        return float(sum(task["cost"]["cpu_seconds"] for task in self.tasks.values()))

    def pictures(self, task: int, sku: str) -> list[Pixels]:
        """The pictures of ``sku`` after ``task``, as they were measured; none if not kept."""
        path = self.folder / "pictures" / f"task-{task}-{sku}.png"
        if not path.exists():
            return []
        strip = decode_png(path.read_bytes())
        side = strip.shape[0]
        return [strip[:, left : left + side] for left in range(0, strip.shape[1], side)]

    def costs(self) -> dict[str, float | None]:
        """Means a product, and the final size."""
        state = self.last["state_bytes"]
        return {
            "cpu_seconds": self.cpu_seconds / len(self.skus),
            "state_bytes": state,
            "state_bytes_a_concept": state / len(self.skus),
            "peak_rss_bytes": max(task["cost"]["peak_rss_bytes"] for task in self.tasks.values()),
            "cpu_ratio": self._ratio(lambda task: task["cost"]["cpu_seconds"]),
            "rss_ratio": self._ratio(lambda task: task["cost"]["peak_rss_bytes"]),
            "state_ratio": self._ratio(lambda task: task["state_bytes"]),
        }

    def cost_curve(self) -> list[tuple[int, float]]:
        """``(task, CPU seconds)``."""
        return [(k, task["cost"]["cpu_seconds"]) for k, task in sorted(self.tasks.items())]

    def fidelity_curve(self, encoder: str) -> list[tuple[int, float]]:
        """``(task, mean likeness of all concepts so far)`` where all were measured."""
        rows = self.matrix(encoder, everything=True).values
        judged = ~np.isnan(rows[-1])  # the others have no photo that can be cut out
        return [
            (k, float(row.mean()))
            for k in sorted(self.tasks)
            if len(row := rows[k - 1, :k][judged[:k]]) and not np.isnan(row).any()
        ]

    def _ratio(self, of: Callable[[Mapping[str, Any]], float]) -> float | None:
        """Median of the last three tasks over the median of three around ``EARLY_TASK``."""
        count = len(self.skus)
        if count < EARLY_TASK + 5 or not self.in_sequence:
            return None
        early = [of(self.tasks[k]) for k in range(EARLY_TASK - 1, EARLY_TASK + 2)]
        late = [of(self.tasks[k]) for k in range(count - 2, count + 1)]
        return float(np.median(late) / np.median(early))


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
        return self.results[0].encoders

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
    cells = _read_cells(home)
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


def finished_cells(home: Path) -> list[Result]:
    """Every finished cell under ``home``, whatever it was measured by."""
    return [cell for cell in _read_cells(home) if cell.finished]


def _read_cells(home: Path) -> list[Result]:
    cells = []
    for path in sorted(home.glob("cells/*/*/cell.json")):
        facts = json.loads(path.read_text("utf-8"))
        tasks = {
            number: json.loads(file.read_text("utf-8"))
            for number in range(1, int(facts["tasks"]) + 1)
            if (file := path.with_name(f"task-{number}.json")).exists()
        }
        cells.append(Result(path.parent, facts, tasks))
    return cells


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
