"""The files of a cell, and the estimate of what is left."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors.torch import load
from torch import Tensor

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.evaluation.contact_sheet import encode_png
from catalog_pipeline.records import Pixels
from catalog_pipeline.stores.local import LocalObjectStore
from tests.benchmarks.harness.cells import CellFolder
from tests.benchmarks.learning.cells import Cell


class CellProgress(CellFolder):
    """The files of one cell: ``cell.json``, and for each task its figures and the state.

    ``task-<k>.json`` is written after ``task-<k>.safetensors``: where the figures
    are, the state is whole. Only the newest state is kept.
    """

    def __init__(self, objects: LocalObjectStore, cell: Cell) -> None:
        super().__init__(objects, cell.folder)
        self.tasks = len(cell.products)

    @property
    def finished(self) -> bool:
        """Whether the last task is written."""
        return self.has(f"task-{self.tasks}.json")

    def finished_tasks(self) -> int:
        """How many tasks are written; the next one is this plus one."""
        written = [task for task in range(1, self.tasks + 1) if self.has(f"task-{task}.json")]
        return max(written, default=0)

    def read_state(self, task: int) -> dict[str, Tensor]:
        """The method's state after ``task``.

        Raises:
            IntegrityError: it is gone.
        """
        name = f"task-{task}.safetensors"
        if not self.has(name):
            raise IntegrityError(
                f"{self.key(name)} is missing although task {task} is finished; expected the "
                "method's state; delete the folder to run the cell anew"
            )
        return load(self.read(name))

    def read_task(self, task: int) -> dict[str, Any]:
        """The figures of a finished task."""
        figures: dict[str, Any] = json.loads(self.read(f"task-{task}.json"))
        return figures

    def write_cell(self, facts: Mapping[str, Any]) -> None:
        """What the cell is, once."""
        if not self.has("cell.json"):
            self.put_json("cell.json", facts)

    def write_task(self, task: int, state: bytes, figures: Mapping[str, Any]) -> None:
        """State, then figures; then the state before is dropped."""
        self.put(f"task-{task}.safetensors", state)
        self.put_json(f"task-{task}.json", figures)
        for earlier in range(1, task):
            if self.has(f"task-{earlier}.safetensors"):
                self._objects.delete(self.key(f"task-{earlier}.safetensors"))

    def write_pictures(self, name: str, pictures: Sequence[Pixels]) -> None:
        """A strip of pictures."""
        self.put(f"pictures/{name}.png", encode_png(np.concatenate(pictures, axis=1)))


@dataclass
class Pace:
    """Wall seconds of the tasks of this process, for the estimate of what is left."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def note(self, method: str, seconds: float) -> None:
        """One task of ``method`` took ``seconds``."""
        self.seconds.setdefault(method, []).append(seconds)

    def estimate(self, cells: Sequence[Cell], current: Cell, tasks_left: int) -> float:
        """Seconds for the rest of ``current`` and for ``cells``."""
        everything = [s for found in self.seconds.values() for s in found]
        average = float(np.mean(everything)) if everything else math.nan
        left = {current.variant.method: tasks_left}
        for cell in cells:
            left[cell.variant.method] = left.get(cell.variant.method, 0) + len(cell.products)
        return sum(
            count * float(np.mean(self.seconds.get(method, [average])))
            for method, count in left.items()
        )
