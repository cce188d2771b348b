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
from tests.benchmarks.learning.measure import MEASURES, final_figures, likeness_figures
from tests.benchmarks.learning.products import Product, ProductShelf, ceilings
from tests.benchmarks.learning.references import read_references
from tests.benchmarks.learning.results import Result, finished_cells

log = logging.getLogger("bench")


def remeasure(home: Path, shelf: ProductShelf, encoders: Mapping[str, FeatureEncoder]) -> int:
    """Bring every finished cell to the present definitions; returns how many.

    What is read off pictures changes, of every task whose pictures are kept: likeness; of the
    last one text following and confusion too.
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
        looks = self._looks(number)
        figures = likeness_figures(looks, self.products)
        # What was measured without keeping its pictures stays as it is.
        figures["fidelity"] = {**self.result.tasks[number]["fidelity"], **figures["fidelity"]}
        if number == len(self.products):
            protocol = self.result.facts["protocol"]
            sizes, side = protocol["sizes"], self._side
            plan = SamplingPlan(sizes["sampler_steps"], sizes["guidance"], side, side)
            references = read_references(
                protocol["base_hash"], plan, self.encoders, LocalObjectStore(self.home)
            )
            figures |= final_figures(looks, self.products, references, sizes["images"])
        return figures

    def _looks(self, number: int) -> dict[str, Looks]:
        """Of every product whose pictures after that task are kept."""
        return {
            sku: look_at(pictures, self.encoders, self.masker)
            for sku in self.result.tasks[number]["fidelity"]
            if (pictures := self.result.pictures(number, sku))
        }

    @property
    def _side(self) -> int:
        last = self.result.pictures(len(self.products), self.products[-1].sku)
        return last[0].shape[0]

    def _put(self, name: str, content: object) -> None:
        folder = self.result.folder.relative_to(self.home).as_posix()
        LocalObjectStore(self.home).put(f"{folder}/{name}", json_bytes(content))
