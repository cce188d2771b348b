"""Running cells: learn, measure, write, go on; resumable after every task."""

from __future__ import annotations

import logging
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from catalog_pipeline import __version__
from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.parts import encode_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LearningContext, LifelongMethod
from catalog_pipeline.learning.methods.sequence import TaskSequence
from catalog_pipeline.records import Concept, Pixels, part_owner
from catalog_pipeline.settings import BaseModelSettings, LearningSettings
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.workflows.learn.empty_scenes import load_backdrops
from tests.benchmarks.harness.costs import Cost, measured
from tests.benchmarks.learning.cells import Cell, measured_concepts
from tests.benchmarks.learning.looks import Looks, RememberingMasker
from tests.benchmarks.learning.measure import (
    MEASURES,
    Judge,
    confusion_figures,
    dream_figures,
    dream_templates,
    likeness_figures,
    measured_templates,
    text_figures,
)
from tests.benchmarks.learning.products import Product, ProductShelf, ceilings
from tests.benchmarks.learning.progress import CellProgress, Pace
from tests.benchmarks.learning.references import load_references
from tests.benchmarks.learning.routing import routing_errors
from tests.benchmarks.learning.scenes import (
    draw_scenes,
    open_reflection,
    paint_scenes,
    scene_figures,
)
from tests.benchmarks.learning.suites import TRAINED_ALIKE

log = logging.getLogger("bench")


@dataclass(frozen=True)
class Bench:
    """What all cells of a process share; the first encoder is also the methods' own."""

    home: Path
    base: BaseModelSettings
    encoders: Mapping[str, FeatureEncoder]
    shelf: ProductShelf
    methods: Mapping[str, Callable[[LearningContext], LifelongMethod]]

    @property
    def objects(self) -> LocalObjectStore:
        """Files under the home; a write replaces a file whole."""
        return LocalObjectStore(self.home)


def run_cells(bench: Bench, cells: Sequence[Cell]) -> int:
    """Run every unfinished cell, one after another; returns how many were run to the end.

    A cell that another process works on is left to it.
    """
    pace, done = Pace(), 0
    for number, cell in enumerate(cells):
        progress = CellProgress(bench.objects, cell)
        if progress.finished:
            log.info("%s: finished before", cell.folder)
            continue
        (bench.home / cell.folder).mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(bench.home / cell.folder / ".lock", timeout=0):
                if not progress.finished:
                    pending = [c for c in cells[number + 1 :] if not _is_finished(bench, c)]
                    CellRun(bench, cell, progress, pace).run(pending)
                    done += 1
        except Timeout:
            log.info("%s: another process works on it; going on", cell.folder)
    return done


def _is_finished(bench: Bench, cell: Cell) -> bool:
    return CellProgress(bench.objects, cell).finished


def _donor(bench: Bench, cell: Cell) -> CellProgress | None:
    """The finished cell whose training ``cell`` would only repeat."""
    method = TRAINED_ALIKE.get(cell.variant.method)
    if method is None:
        return None
    variant = replace(cell.variant, label=method, method=method)
    progress = CellProgress(bench.objects, replace(cell, variant=variant))
    return progress if progress.finished else None


class CellRun:
    """One cell on a fresh engine."""

    def __init__(self, bench: Bench, cell: Cell, progress: CellProgress, pace: Pace) -> None:
        self._cell, self._progress, self._pace = cell, progress, pace
        self._learning = LearningSettings.model_validate(cell.learning)
        engine = DiffusionEngine(load_base_model(bench.base), self._learning.adapter)
        side, sizes = engine.base.sample_size_px, cell.sizes
        plan = SamplingPlan(sizes.sampler_steps, sizes.guidance, side, side)
        encode = next(iter(bench.encoders.values()))
        self._main_encoder = next(iter(bench.encoders))
        log.info("%s: opening; what the bare base renders is cached in the home", cell.folder)
        backdrops = load_backdrops(engine, plan, self._learning, bench.objects)
        context = LearningContext(engine, self._learning, encode.encode, backdrops, plan)
        self._method = bench.methods[cell.variant.method](context)
        self._sequence = TaskSequence(self._method)
        references = load_references(engine, plan, bench.encoders, bench.objects)
        masker = RememberingMasker(bench.shelf.masker())
        self._judge = Judge(engine, bench.encoders, masker, references, plan)
        self._products = [bench.shelf.load(cell.source, name) for name in cell.products]
        self._donor = _donor(bench, cell)
        self._concepts = [self._concept(p, task) for task, p in enumerate(self._products, 1)]

    def run(self, pending: Sequence[Cell] = ()) -> None:
        """Every task that is not finished; ``pending`` cells count in the estimate."""
        self._progress.write_cell(self._facts())
        first = self._progress.finished_tasks() + 1
        if first > 1:
            self._restore(self._progress, first - 1, first - 1)
            log.info("%s: going on at task %d", self._cell.folder, first)
        if self._method.at_once:
            self._run_at_once()
            return
        for task in range(first, self._progress.tasks + 1):
            started = time.monotonic()
            cost = self._learn(task)
            self._finish_task(task, cost)
            self._pace.note(self._cell.variant.method, time.monotonic() - started)
            self._log_task(task, cost, pending)

    def _learn(self, task: int) -> Cost:
        """Learn one task, or take it over from the finished cell that trained the same bytes."""
        donor = self._donor
        if donor is None:
            with measured() as cost:
                self._sequence.learn(self._new(task - 1))
            return cost
        self._restore(donor, donor.tasks, task)
        return Cost(**{f.name: donor.read_task(task)["cost"][f.name] for f in fields(Cost)})

    def _restore(self, progress: CellProgress, task: int, learned: int) -> None:
        """The state of ``progress`` after ``task``, of the first ``learned`` concepts."""
        news = [self._without_photos(index) for index in range(learned)]
        owners = {"", *(new.concept.sku for new in news)}
        parts = {
            name: data.numpy().tobytes()
            for name, data in progress.read_state(task).items()
            if part_owner(name) in owners
        }
        self._sequence.restore(parts, news)

    def _run_at_once(self) -> None:
        """All concepts in one task, which counts as the last one."""
        tasks = self._progress.tasks
        with measured() as cost:
            self._sequence.learn(*(self._new(index) for index in range(tasks)))
        self._finish_task(tasks, cost)
        self._log_task(tasks, cost, ())

    def _finish_task(self, task: int, cost: Cost) -> None:
        """Encode the state, measure, write."""
        # Every part byte for byte, as the product line stores it.
        state = encode_part(
            {
                name: torch.frombuffer(bytearray(data), dtype=torch.uint8)
                for name, data in self._sequence.state().items()
            }
        )
        started = time.monotonic()
        figures = self._measure(task)
        costs = asdict(cost) | {"measuring_wall_seconds": time.monotonic() - started}
        self._progress.write_task(
            task,
            state,
            {
                "task": task,
                "sku": self._products[task - 1].sku,
                **figures,
                "state_bytes": len(state),
                "cost": {name: round(value, 3) for name, value in costs.items()},
                "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )

    def _measure(self, task: int) -> dict[str, Any]:
        judge, checkpoints = self._judge, self._cell.checkpoints
        templates = measured_templates(self._cell.sizes.images)
        pictures: dict[str, list[Pixels]] = {}
        for index in measured_concepts(task, checkpoints, full_matrix=self._cell.full_matrix):
            concept = self._concepts[index]
            painted = judge.pictures_of(self._method, concept, templates)
            self._progress.write_pictures(f"task-{task}-{concept.sku}", painted)
            pictures[concept.sku] = painted
        looks = {sku: judge.look_at(painted) for sku, painted in pictures.items()}
        figures = likeness_figures(looks, self._products)
        if task in checkpoints:
            figures |= confusion_figures(looks, self._products[:task])
            figures["drift"] = judge.drift(self._method)
            figures["routing"] = routing_errors(self._method, self._concepts[:task], templates)
        if task == self._progress.tasks:
            figures |= {"measures": MEASURES, **text_figures(looks, judge.references, templates)}
            figures |= self._measure_other_scenes() | self._measure_together(pictures)
        return figures

    def _measure_other_scenes(self) -> dict[str, Any]:
        """Each product by the prompts of DreamBench."""
        judge, templates = self._judge, dream_templates(self._cell.sizes.dreambench)
        if not templates:
            return {}
        looks: dict[str, Looks] = {}
        for concept in self._concepts:
            painted = judge.pictures_of(self._method, concept, templates, "dreambench")
            self._progress.write_pictures(f"dreambench-{concept.sku}", painted)
            looks[concept.sku] = judge.look_at(painted)
        return {"dreambench": dream_figures(looks, self._products, judge.references, templates)}

    def _measure_together(self, alone: Mapping[str, Sequence[Pixels]]) -> dict[str, Any]:
        """Several products in a picture; ``alone`` are the pictures of each one."""
        judge = self._judge
        scenes = draw_scenes(list(alone), self._cell.sizes.scenes)
        if not scenes:
            return {}
        concepts = {concept.sku: concept for concept in self._concepts}
        painted = paint_scenes(self._method, concepts, scenes, judge.plan)
        for scene, picture in zip(scenes, painted, strict=True):
            self._progress.write_pictures(scene.file_name, [picture])
        reflection = open_reflection(self._products, judge.encoders, judge.masker)
        return {"scenes": scene_figures(reflection, scenes, painted, alone)}

    def _log_task(self, task: int, cost: Cost, pending: Sequence[Cell]) -> None:
        tasks = self._progress.tasks
        left = self._pace.estimate(pending, self._cell, tasks - task)
        about = "unknown" if math.isnan(left) else f"{left / 60:.0f} min"
        log.info(
            "%s: task %d/%d (%s) learned in %.0f s (%.0f CPU s); left about %s",
            *(self._cell.folder, task, tasks, self._products[task - 1].sku),
            *(cost.wall_seconds, cost.cpu_seconds, about),
        )

    def _concept(self, product: Product, task: int) -> Concept:
        return Concept(
            sku=product.sku,
            name=product.name,
            class_noun=product.class_noun,
            category="",
            placeholder_tokens=placeholder_tokens(
                product.sku, self._learning.adapter.tokens_per_concept
            ),
            photos_hash=product.photos_hash,
            task=task,
        )

    def _new(self, index: int) -> NewConcept:
        product = self._products[index].with_photos(self._cell.variant.photos)
        features = product.features[self._main_encoder]
        return NewConcept(self._concepts[index], product.photos, features)

    def _without_photos(self, index: int) -> NewConcept:
        new = self._new(index)
        return NewConcept(new.concept, (), new.features)

    def _facts(self) -> dict[str, Any]:
        return {
            **self._cell.to_record(),
            "tasks": self._progress.tasks,
            "skus": [product.sku for product in self._products],
            "classes": {product.sku: product.class_noun for product in self._products},
            **ceilings(self._products, self._judge.encoders),
            "learning": self._learning.model_dump(mode="json"),
            "code_version": __version__,
            "machine": f"{os.cpu_count()} logical cores, {platform.machine()}, "
            f"{self._judge.engine.base.device.type}, {self._judge.engine.base.dtype}",
            "started_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }
