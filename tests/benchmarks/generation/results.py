"""Figures of the newest cells: shares with their uncertainty, counts, and what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catalog_pipeline.records import Pixels
from tests.benchmarks.generation.cells import CellFiles, read_current
from tests.benchmarks.generation.methods import METHODS
from tests.benchmarks.generation.scenes import Scene

BOOTSTRAPS = 2000
TARGETS = {"pairs": 0.90, "triples": 0.75}
TITLES = {name: method.title for name, method in METHODS.items()} | {"gate": "ours + gate"}


@dataclass(frozen=True)
class Row:
    """A method's pictures of a suite; lists run along the scenes."""

    name: str
    scenes: Sequence[Scene]
    pictures: Sequence[Pixels]
    verdicts: Sequence[Mapping[str, Any]]
    costs: Sequence[Mapping[str, float]]
    attempts: Sequence[int]

    @property
    def title(self) -> str:
        return TITLES[self.name]

    def figures(self) -> dict[str, Any]:
        complete = [all_found(verdict) for verdict in self.verdicts]
        found = [said for verdict in self.verdicts for said in verdict["found"].values()]
        share, low, high = bootstrap(complete)
        cpu = float(np.mean([cost["cpu_seconds"] for cost in self.costs]))
        return {
            "title": self.title,
            "images": len(complete),
            "all_found": share,
            "interval": [low, high],
            "found": float(np.mean([said == "found" for said in found])),
            **{kind: Counter(found)[kind] for kind in ("missing", "swapped", "duplicated")},
            "count_errors": sum(bool(verdict["count_error"]) for verdict in self.verdicts),
            "cpu_seconds": cpu,
            "wall_seconds": float(np.mean([cost["wall_seconds"] for cost in self.costs])),
            "score_per_second": share / cpu if cpu else 0.0,
            "attempts": float(np.mean(self.attempts)),
            "swapped_images": float(
                np.mean(["swapped" in verdict["found"].values() for verdict in self.verdicts])
            ),
        }


def all_found(verdict: Mapping[str, Any]) -> bool:
    """Whether every named thing is there, once and itself."""
    return all(said == "found" for said in verdict["found"].values())


def bootstrap(complete: Sequence[float]) -> tuple[float, float, float]:
    """Share, and its 95 % interval over redrawn images (or scenes, each the mean of its own)."""
    values = np.asarray(complete, np.float64)
    draws = np.random.default_rng(0).integers(len(values), size=(BOOTSTRAPS, len(values)))
    low, high = np.percentile(values[draws].mean(1), (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def read_rows(home: Path, suite: str) -> dict[str, Row]:
    """The judged rows of ``suite`` in the order of the methods, the gate's last."""
    folders = read_current(home).get(suite, {"cells": {}})["cells"]
    rows = {
        name: row
        for name in METHODS
        if name in folders and (row := _read_row(home, name, folders[name])) is not None
    }
    tries = [
        row
        for number in range(2, 10)
        if (folder := folders.get(f"ours-{number}"))
        and (row := _read_row(home, "ours", folder)) is not None
    ]
    if "ours" in rows and tries:
        rows["gate"] = _gated(rows["ours"], tries)
    return rows


def _read_row(home: Path, name: str, folder: str) -> Row | None:
    files = CellFiles(home, folder)
    verdicts = files.verdicts()
    if verdicts is None:
        return None
    scenes, costs = files.scenes(), files.rendered()
    priced = [costs[scene.number] for scene in scenes]
    return Row(name, scenes, files.pictures(), verdicts, priced, [1] * len(scenes))


def _gated(first: Row, tries: Sequence[Row]) -> Row:
    """Of each scene the first picture that passed, else the one with most products found."""
    kept = {
        scene.number: [picture, verdict, dict(cost), 1]
        for scene, picture, verdict, cost in zip(
            first.scenes, first.pictures, first.verdicts, first.costs, strict=True
        )
    }
    for attempt in tries:
        for scene, picture, verdict, cost in zip(
            attempt.scenes, attempt.pictures, attempt.verdicts, attempt.costs, strict=True
        ):
            best = kept[scene.number]
            if _merit(verdict) > _merit(best[1]):
                best[:2] = [picture, verdict]
            best[2] = {name: best[2][name] + value for name, value in cost.items()}
            best[3] += 1
    pictures, verdicts, costs, attempts = zip(*(kept[s.number] for s in first.scenes), strict=True)
    return Row("gate", first.scenes, pictures, verdicts, costs, attempts)


def _merit(verdict: Mapping[str, Any]) -> tuple[bool, int]:
    return bool(verdict["passed"]), sum(said == "found" for said in verdict["found"].values())
