"""Cells, a method on a scene set: resumable after every batch, judged from the pictures kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from catalog_pipeline.evaluation.contact_sheet import contact_sheet, decode_png, encode_png
from catalog_pipeline.records import Pixels
from catalog_pipeline.stores.local import LocalObjectStore
from tests.benchmarks.generation.judging import Judge
from tests.benchmarks.generation.methods import METHODS, Method
from tests.benchmarks.generation.scenes import Scene
from tests.benchmarks.harness.cells import CellFolder, cell_folder, digest, json_bytes, read_json
from tests.benchmarks.harness.costs import measured

log = logging.getLogger("bench")
SHEET_COLUMNS = 8


class Renderer(Protocol):
    """What paints the scenes: :class:`~tests.benchmarks.generation.methods.Workbench`."""

    def render(
        self, method: Method, scenes: Sequence[Scene], strength: float = 1.0
    ) -> list[Pixels]:
        """One picture a scene."""

    def facts(self, method: Method) -> dict[str, Any]:
        """What the pictures depend on."""


@dataclass(frozen=True)
class Cell:
    """One method on one scene set; ``attempt`` 2 and on repaint what failed, stronger."""

    suite: str
    method: Method
    scenes: tuple[Scene, ...]
    facts: Mapping[str, Any]
    attempt: int = 1
    strength: float = 1.0

    @property
    def row(self) -> str:
        return self.method.name if self.attempt == 1 else f"{self.method.name}-{self.attempt}"

    def to_record(self) -> dict[str, Any]:
        """Everything that the pictures depend on, the code apart."""
        scenes = [asdict(scene) for scene in self.scenes]
        return {**asdict(self), "method": asdict(self.method), "scenes": scenes}

    @property
    def folder(self) -> str:
        """Where its files are, under the bench's home: another input, another folder."""
        return cell_folder(self.suite, self.row, self.to_record(), 10)


class CellFiles(CellFolder):
    """``pictures/NNN.png``, ``rendered.json`` (after its pictures), ``judged.json``, a sheet."""

    def __init__(self, home: Path, folder: str) -> None:
        super().__init__(LocalObjectStore(home), folder)

    def scenes(self) -> list[Scene]:
        record = self.read_json("cell.json")["scenes"]
        return [Scene(**{**scene, "things": tuple(scene["things"])}) for scene in record]

    def rendered(self) -> dict[int, dict[str, float]]:
        """Scene number -> what the finished picture cost."""
        found = self.read_json("rendered.json") or {}
        return {int(number): cost for number, cost in found.items()}

    def add(
        self, scenes: Sequence[Scene], pictures: Sequence[Pixels], cost: Mapping[str, float]
    ) -> None:
        """Pictures first, then the note that they are finished."""
        for scene, picture in zip(scenes, pictures, strict=True):
            self.put(f"pictures/{scene.number:03}.png", encode_png(picture))
        done = {**self.rendered(), **{scene.number: dict(cost) for scene in scenes}}
        self.put_json("rendered.json", done)

    def pictures(self) -> list[Pixels]:
        names = [f"pictures/{scene.number:03}.png" for scene in self.scenes()]
        return [decode_png(self.read(name)) for name in names]

    def verdicts(self) -> list[dict[str, Any]] | None:
        """Of every scene, in order; ``None`` where the cell is not judged."""
        found: list[dict[str, Any]] | None = self.read_json("judged.json")
        return found

    def judge(self, judge: Judge) -> list[dict[str, Any]]:
        """Judge the pictures (again), and lay them out on one sheet."""
        pictures, scenes = self.pictures(), self.scenes()
        verdicts = judge.judge(pictures, scenes)
        starts = range(0, len(pictures), SHEET_COLUMNS)
        sheet = contact_sheet([pictures[i : i + SHEET_COLUMNS] for i in starts])
        self.put("sheet.png", encode_png(sheet))
        self.put_json("judged.json", verdicts)
        return verdicts


def run_cell(home: Path, cell: Cell, bench: Renderer, judge: Judge) -> list[dict[str, Any]]:
    """Paint what is missing, batch by batch, then judge; a finished cell is only read."""
    files = CellFiles(home, cell.folder)
    files.put_json("cell.json", cell.to_record())
    missing = [scene for scene in cell.scenes if scene.number not in files.rendered()]
    for start in range(0, len(missing), cell.method.batch):
        batch = missing[start : start + cell.method.batch]
        with measured() as cost:
            pictures = bench.render(cell.method, batch, cell.strength)
        # Short batches are filled up: a picture costs its share of a full one.
        share = {
            "cpu_seconds": cost.cpu_seconds / cell.method.batch,
            "wall_seconds": cost.wall_seconds / cell.method.batch,
        }
        files.add(batch, pictures, share)
        left = len(missing) - start - len(batch)
        log.info("%s: %.1f CPU s an image, %d left", cell.folder, share["cpu_seconds"], left)
    return files.verdicts() or files.judge(judge)


def run_suite(
    home: Path,
    suite: str,
    scenes: tuple[Scene, ...],
    methods: Sequence[str],
    bench: Renderer,
    judge: Judge,
    gate: tuple[int, float] | None = None,
) -> None:
    """Every method on ``scenes``; ``gate`` is (attempts, factor of strength a further attempt)."""
    for name in methods:
        cell = Cell(suite, METHODS[name], scenes, bench.facts(METHODS[name]))
        verdicts = run_cell(home, cell, bench, judge)
        note_cell(home, cell)
        attempts, factor = gate if gate and name == "ours" else (1, 1.0)
        for attempt in range(2, attempts + 1):
            pairs = zip(cell.scenes, verdicts, strict=True)
            failed = [scene for scene, verdict in pairs if not verdict["passed"]]
            if not failed:
                break
            again = tuple(replace(s, seed=(s.seed + 7919) % 2**31) for s in failed)
            strength = factor ** (attempt - 1)
            cell = replace(cell, scenes=again, attempt=attempt, strength=strength)
            verdicts = run_cell(home, cell, bench, judge)
            note_cell(home, cell)


def note_cell(home: Path, cell: Cell) -> None:
    """Write into ``current.json`` that ``cell`` is the newest of its row.

    Cells of other scenes or of another learned version are no longer compared with it, and
    further attempts belong to the first one that is newest.
    """
    current = read_current(home)
    shared = [cell.facts.get("version"), cell.facts.get("base")]
    suite = current.get(cell.suite, {})
    if cell.attempt == 1:
        scenes = [asdict(scene) for scene in cell.scenes]
        name = digest([scenes, shared], 10)
        if suite.get("set") != name:
            suite = {"set": name, "cells": {}}
        rows = suite["cells"]
        suite["cells"] = {r: f for r, f in rows.items() if not r.startswith(f"{cell.row}-")}
    suite["cells"][cell.row] = cell.folder
    current[cell.suite] = suite
    LocalObjectStore(home).put("current.json", json_bytes(current))


def read_current(home: Path) -> dict[str, Any]:
    """Suite -> its newest set of comparable cells: row -> folder."""
    current: dict[str, Any] = read_json(home / "current.json") or {}
    return current


def rejudge(home: Path, suite: str, judge: Judge) -> int:
    """Judge the newest cells of ``suite`` again; returns how many verdicts changed.

    Further attempts of the gate stay those of the failures as they were judged before: run
    the suite again to repaint by the new verdicts.
    """
    changed = 0
    for folder in read_current(home).get(suite, {"cells": {}})["cells"].values():
        files = CellFiles(home, folder)
        if len(files.rendered()) < len(files.scenes()):
            continue
        before = files.verdicts() or []
        after = files.judge(judge)
        changed += sum(a != b for a, b in zip(before, after, strict=False))
        changed += len(after) - len(before)
    return changed
