"""Measuring finished cells again from their stored pictures, after a definition has changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog_pipeline.diffusion.sampling import SamplingPlan
from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.stores.local import LocalObjectStore
from tests.benchmarks.harness.cells import json_bytes
from tests.benchmarks.learning.looks import Looks, RememberingMasker, look_at
from tests.benchmarks.learning.measure import (
    MEASURES,
    confusion_figures,
    dream_figures,
    dream_templates,
    likeness_figures,
    measured_templates,
    text_figures,
)
from tests.benchmarks.learning.products import Product, ProductShelf, ceilings
from tests.benchmarks.learning.references import read_references
from tests.benchmarks.learning.results import Result, finished_cells
from tests.benchmarks.learning.scenes import draw_scenes, open_reflection, scene_figures

log = logging.getLogger("bench")


def remeasure(home: Path, shelf: ProductShelf, encoders: Mapping[str, FeatureEncoder]) -> int:
    """Bring every finished cell to the present definitions; returns how many.

    What is read off pictures changes, where they are kept: likeness after every task,
    confusion at checkpoints, and after the last task text following, DreamBench prompts and
    scenes of several products.
    """
    changed = 0
    for result in finished_cells(home):
        if result.last.get("measures") != MEASURES:
            products = [
                shelf.load(result.facts["protocol"]["source"], name)
                for name in result.facts["products"]
            ]
            _Again(home, result, products, encoders, RememberingMasker(shelf.masker())).measure()
            log.info("%s: measured again", result.folder.name)
            changed += 1
    return changed


@dataclass(frozen=True)
class _Again:
    """One finished cell, measured again."""

    home: Path
    result: Result
    products: list[Product]
    encoders: Mapping[str, FeatureEncoder]
    masker: RememberingMasker

    def measure(self) -> None:
        """The last task is written last: it says by which definitions all were measured."""
        facts = {**self.result.facts, **ceilings(self.products, self.encoders)}
        self._put("cell.json", facts)
        for number, task in sorted(self.result.tasks.items()):
            self._put(f"task-{number}.json", {**task, **self._figures(number)})

    def _figures(self, number: int) -> dict[str, Any]:
        measured = self.result.tasks[number]["fidelity"]
        looks = self._looks({sku: f"task-{number}-{sku}" for sku in measured})
        figures = likeness_figures(looks, self.products)
        # What was measured without keeping its pictures stays as it is.
        figures["fidelity"] = {**measured, **figures["fidelity"]}
        if number in self.result.checkpoints and len(looks) == number:
            figures |= confusion_figures(looks, self.products[:number])
        if number == len(self.products):
            figures |= self._last_figures(looks)
        return figures

    def _last_figures(self, looks: Mapping[str, Looks]) -> dict[str, Any]:
        """What is measured after the last task alone."""
        protocol, skus = self.result.facts["protocol"], self.result.skus
        sizes = protocol["sizes"]
        alone = {sku: self.result.pictures(len(skus), sku) for sku in skus}
        side = alone[skus[0]][0].shape[0]
        plan = SamplingPlan(sizes["sampler_steps"], sizes["guidance"], side, side)
        references = read_references(
            protocol["base_hash"], plan, self.encoders, LocalObjectStore(self.home)
        )
        templates = measured_templates(sizes["images"])
        figures = {"measures": MEASURES, **text_figures(looks, references, templates)}
        templates = dream_templates(sizes.get("dreambench", 0))
        dreamt = self._looks({sku: f"dreambench-{sku}" for sku in skus})
        if templates and dreamt:
            figures["dreambench"] = dream_figures(dreamt, self.products, references, templates)
        scenes = draw_scenes(skus, sizes.get("scenes", 0))
        strips = [self.result.strip(scene.file_name, wide=True) for scene in scenes]
        painted = [picture for strip in strips for picture in strip]
        if scenes and len(painted) == len(scenes):
            judge = open_reflection(self.products, self.encoders, self.masker)
            figures["scenes"] = scene_figures(judge, scenes, painted, alone)
        return figures

    def _looks(self, strips: Mapping[str, str]) -> dict[str, Looks]:
        """Of every product whose strip of pictures is kept."""
        return {
            sku: look_at(pictures, self.encoders, self.masker)
            for sku, name in strips.items()
            if (pictures := self.result.strip(name))
        }

    def _put(self, name: str, content: object) -> None:
        folder = self.result.folder.relative_to(self.home).as_posix()
        LocalObjectStore(self.home).put(f"{folder}/{name}", json_bytes(content))
