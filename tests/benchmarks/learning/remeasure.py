"""Measuring finished cells again from their stored pictures, after a definition has changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from catalog_pipeline.diffusion.sampling import SamplingPlan
from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.stores.local import LocalObjectStore
from tests.benchmarks.harness.cells import json_bytes
from tests.benchmarks.learning.measure import MEASURES, figures_of_pictures
from tests.benchmarks.learning.products import ProductShelf
from tests.benchmarks.learning.references import read_references
from tests.benchmarks.learning.results import Result, finished_cells

log = logging.getLogger("bench")


def remeasure(home: Path, shelf: ProductShelf, encoders: Mapping[str, FeatureEncoder]) -> int:
    """Bring the last task of every finished cell to the present definitions; returns how many.

    Only what is read off the last pictures changes: text following and confusion.
    """
    changed = 0
    objects = LocalObjectStore(home)
    for result in finished_cells(home):
        if result.last.get("measures") == MEASURES:
            continue
        figures = {**result.last, **_figures(result, shelf, encoders, objects)}
        key = f"{result.folder.relative_to(home).as_posix()}/task-{len(result.skus)}.json"
        objects.put(key, json_bytes(figures))
        log.info("%s: measured again", result.folder.name)
        changed += 1
    return changed


def _figures(
    result: Result,
    shelf: ProductShelf,
    encoders: Mapping[str, FeatureEncoder],
    objects: LocalObjectStore,
) -> dict[str, object]:
    protocol = result.facts["protocol"]
    sizes = protocol["sizes"]
    pictures = {sku: result.final_pictures(sku) for sku in result.skus}
    side = pictures[result.skus[0]][0].shape[0]
    plan = SamplingPlan(sizes["sampler_steps"], sizes["guidance"], side, side)
    references = read_references(protocol["base_hash"], plan, encoders, objects)
    generated = {
        sku: {name: encoder.encode(images) for name, encoder in encoders.items()}
        for sku, images in pictures.items()
    }
    products = [shelf.load(protocol["source"], name) for name in result.facts["products"]]
    return figures_of_pictures(generated, products, references, sizes["images"])
