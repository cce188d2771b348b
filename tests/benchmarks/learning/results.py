"""Finished cells read back from a home, and their figures over seeds and orders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catalog_pipeline.evaluation.contact_sheet import decode_png
from catalog_pipeline.evaluation.retention import RetentionMatrix, fidelity_share
from catalog_pipeline.records import Pixels
from tests.benchmarks.learning.cells import checkpoints_of, measured_concepts, middle_task

KINDS = {"": ("crops", "crop_ceilings"), "whole_": ("fidelity", "ceilings")}
"""Prefix of a figure -> its likeness in a task, and the photos' own: of the product cut out of
the pictures, and of whole pictures."""
EARLY_TASK = 5
"""Costs of the last tasks are compared with those around this one."""


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
        """Those by which every task was measured; the first one is the methods' own."""
        seen = [found.keys() for task in self.tasks.values() for found in task["fidelity"].values()]
        return tuple(name for name in self.facts["ceilings"] if all(name in by for by in seen))

    @property
    def without_crops(self) -> set[str]:
        """Products whose photos cannot be cut out."""
        return set(self.skus) - set(self.facts["crop_ceilings"][self.encoders[0]])

    @property
    def finished(self) -> bool:
        return len(self.skus) in self.tasks

    @property
    def last(self) -> Mapping[str, Any]:
        return self.tasks[len(self.skus)]

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Tasks after which every method of the suite measures all products so far."""
        stated = self.facts["protocol"].get("checkpoints")
        return tuple(stated or checkpoints_of(len(self.skus)))

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
        for number, task in self.tasks.items():
            wanted = measured_concepts(number, self.checkpoints, full_matrix=everything)
            names = {self.skus[index] for index in wanted}
            found = {s: f[encoder] for s, f in task[kind].items() if s in names}
            matrix.record(self.skus[number - 1], found)
        return matrix

    def figures(self, encoder: str) -> dict[str, float | None]:
        """One figure for each column of the tables."""
        return {
            **{prefix + k: v for prefix in KINDS for k, v in self._kept(prefix, encoder).items()},
            "drift": self.last["drift"].get(encoder),
            "text": self.last["text_following"].get(encoder),
            "plasticity": self._plasticity(encoder),
            **self._other_scenes(encoder),
            **self._confusion(encoder),
            **self.last.get("routing", {}),
            **{
                f"{name}@{size}": share
                for size, shares in self.last.get("scenes", {}).items()
                for name, share in shares.items()
            },
        }

    def _other_scenes(self, encoder: str) -> dict[str, float | None]:
        """By the prompts of DreamBench; ``None`` without them."""
        found = self.last.get("dreambench", {"crops": {}, "text_following": {}})
        likeness = [by[encoder] for by in found["crops"].values()]
        return {
            "dream": float(np.mean(likeness)) if likeness else None,
            "dream_text": found["text_following"].get(encoder),
        }

    def _confusion(self, encoder: str) -> dict[str, float | None]:
        """The shares after the last task, and ``own@10`` of an earlier checkpoint."""
        figures: dict[str, float | None] = {}
        for number, task in self.tasks.items():
            after = "" if number == len(self.skus) else f"@{number}"
            for name, share in task.get("confusion", {}).get(encoder, {}).items():
                if name != "matrix":
                    figures[f"confused_{name}{after}"] = share
        return figures

    def _plasticity(self, encoder: str) -> float | None:
        """Likeness that a product gained a CPU minute, last third of the tasks over the first.

        ``None`` without thirds, without a product in one that can be cut out, or with nothing
        gained in the first.
        """
        third = len(self.skus) // 3
        if not third or not self.in_sequence:
            return None
        gains = np.diag(self.matrix(encoder).values)
        minutes = np.array([self.tasks[k]["cost"]["cpu_seconds"] / 60 for k in sorted(self.tasks)])
        rates = gains / minutes
        early, late = (part[~np.isnan(part)] for part in (rates[:third], rates[-third:]))
        if not len(early) or not len(late) or early.mean() <= 0:
            return None
        return float(late.mean() / early.mean())

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
        return self.strip(f"task-{task}-{sku}")

    def strip(self, name: str, *, wide: bool = False) -> list[Pixels]:
        """The square pictures of a strip, or its one ``wide`` picture; none if not kept."""
        path = self.folder / "pictures" / f"{name}.png"
        if not path.exists():
            return []
        strip = decode_png(path.read_bytes())
        side = strip.shape[1] if wide else strip.shape[0]
        return [strip[:, left : left + side] for left in range(0, strip.shape[1], side)]

    def costs(self) -> dict[str, float | None]:
        """Means a product, and the final size."""
        state = self.last["state_bytes"]
        return {
            "cpu_seconds": self.cpu_seconds / len(self.skus),
            "state_bytes": state,
            "state_bytes_a_concept": state / len(self.skus),
            "marginal_bytes": self._marginal_bytes(),
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

    def _marginal_bytes(self) -> float | None:
        """What the state grew by for each product since the middle task."""
        count = len(self.skus)
        middle = middle_task(count)
        if middle == count or not self.in_sequence:
            return None
        grown = self.last["state_bytes"] - self.tasks[middle]["state_bytes"]
        return float(grown / (count - middle))

    def _ratio(self, of: Callable[[Mapping[str, Any]], float]) -> float | None:
        """Median of the last three tasks over the median of three around ``EARLY_TASK``."""
        count = len(self.skus)
        if count < EARLY_TASK + 5 or not self.in_sequence:
            return None
        early = [of(self.tasks[k]) for k in range(EARLY_TASK - 1, EARLY_TASK + 2)]
        late = [of(self.tasks[k]) for k in range(count - 2, count + 1)]
        return float(np.median(late) / np.median(early))


def finished_cells(home: Path) -> list[Result]:
    """Every finished cell under ``home``, whatever it was measured by."""
    return [cell for cell in read_cells(home) if cell.finished]


def read_cells(home: Path) -> list[Result]:
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
