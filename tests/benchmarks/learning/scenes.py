"""Scenes of several learned products: what a method paints, and which of them are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from catalog_pipeline.diffusion.sampling import RegionalPrompt, SamplingPlan
from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.palettes import palette_of_photos
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.evaluation.reflection.score import Reflection, ReflectionJudge, SkuFinding
from catalog_pipeline.generation.planner import choose_width
from catalog_pipeline.generation.scene_regions import region_masks
from catalog_pipeline.learning.memory import derive_seed
from catalog_pipeline.learning.methods.method import LifelongMethod
from catalog_pipeline.records import Concept, Pixels, Region
from catalog_pipeline.settings import GenerationSettings
from tests.benchmarks.learning.products import Product
from tests.benchmarks.learning.references import SCENES, render

SCENE_SIZES = (2, 3, 4, 5)
VERDICTS = ("found", "missing", "swapped", "duplicated")
_SEED = 0


@dataclass(frozen=True)
class Scene:
    """One picture of ``skus`` from left to right; ``number`` tells scenes of one size apart."""

    skus: tuple[str, ...]
    number: int
    text: str = ""

    @property
    def file_name(self) -> str:
        """Of its picture."""
        return f"scene-{len(self.skus)}-{self.number}"

    @property
    def seed(self) -> int:
        """Of its noise."""
        return derive_seed(_SEED, "/".join(self.skus), self.number)

    @property
    def regions(self) -> tuple[Region, ...]:
        """Equal columns."""
        count = len(self.skus)
        return tuple(Region(at / count, 0.0, (at + 1) / count, 1.0) for at in range(count))


def draw_scenes(skus: Sequence[str], count: int) -> list[Scene]:
    """``count`` scenes of two products, of three, four and five, as far as there are so many.

    Whatever order they were learned in: the same scenes.
    """
    scenes = []
    for size in (size for size in SCENE_SIZES if size <= len(skus)):
        for number in range(count):
            rng = np.random.default_rng([_SEED, size, number])
            chosen = rng.permutation(sorted(skus))[:size]
            text = SCENES[int(rng.integers(len(SCENES)))]
            scenes.append(Scene(tuple(map(str, chosen)), number, text))
    return scenes


def paint_scenes(
    method: LifelongMethod,
    concepts: Mapping[str, Concept],
    scenes: Sequence[Scene],
    plan: SamplingPlan,
) -> list[Pixels]:
    """A picture of each scene: every column reads the prompt of its product, through the slot
    that the method routes it to; as wide as the settings make a scene of so many."""
    settings = GenerationSettings(width=plan.width)
    pictures: list[Pixels] = []
    for size, group in groupby(scenes, lambda scene: len(scene.skus)):
        alike = list(group)
        wide = replace(plan, width=choose_width(settings, size, method.engine.base.size_step_px))
        batch = [_regional(method, concepts, scene, wide) for scene in alike]
        pictures += render(method.engine, batch, [scene.seed for scene in alike], wide)
    return pictures


def _regional(
    method: LifelongMethod, concepts: Mapping[str, Concept], scene: Scene, plan: SamplingPlan
) -> RegionalPrompt:
    template = f"a photo of a {{concept}} {scene.text}"
    own = [method.regional_prompt(template, concepts[sku]) for sku in scene.skus]
    return RegionalPrompt(
        prompts=tuple(prompt for item in own for prompt in item.prompts),
        slots=tuple(slot for item in own for slot in item.slots),
        masks=region_masks(scene.regions, plan.height // 2, plan.width // 2),
    )


def open_reflection(
    products: Sequence[Product], encoders: Mapping[str, FeatureEncoder], masker: ProductMasker
) -> ReflectionJudge:
    """The package's judge of scenes over ``products``, by the first of ``encoders``."""
    name, encoder = next(iter(encoders.items()))
    palettes = {product.sku: palette_of_photos(product.photos) for product in products}
    return ReflectionJudge(
        {product.sku: product.features[name] for product in products},
        {product.sku: product.class_noun for product in products},
        encoder,
        masker,
        palettes={sku: palette for sku, palette in palettes.items() if palette is not None},
    )


def scene_figures(
    judge: ReflectionJudge,
    scenes: Sequence[Scene],
    pictures: Sequence[Pixels],
    alone: Mapping[str, Sequence[Pixels]],
) -> dict[str, dict[str, Any]]:
    """By the number of products in a picture: shares of named products and of pictures.

    Of products each of :data:`VERDICTS`, and ``collapsed``: not found, and what stands in its
    region looks like another learned one. Of pictures ``all_found``.

    Args:
        judge: over all learned products.
        scenes: of several products.
        pictures: one of each scene.
        alone: SKU -> pictures of it alone.
    """
    singles = [(Scene((sku,), 0), picture) for sku, own in alone.items() for picture in own]
    every = [*singles, *zip(scenes, pictures, strict=True)]
    named = [tuple(zip(scene.skus, scene.regions, strict=True)) for scene, _ in every]
    said: dict[int, list[Reflection]] = {}
    judged = judge.judge([picture for _, picture in every], named)
    for (scene, _), reflection in zip(every, judged, strict=True):
        said.setdefault(len(scene.skus), []).append(reflection)
    return {str(size): _shares(reflections) for size, reflections in sorted(said.items())}


def _shares(reflections: Sequence[Reflection]) -> dict[str, Any]:
    findings = [finding for reflection in reflections for finding in reflection.findings]
    return {
        "pictures": len(reflections),
        **{name: float(np.mean([f.verdict == name for f in findings])) for name in VERDICTS},
        "collapsed": float(np.mean([_is_another(finding) for finding in findings])),
        "all_found": float(np.mean([reflection.share == 1 for reflection in reflections])),
    }


def _is_another(finding: SkuFinding) -> bool:
    there = finding.verdict in ("found", "duplicated")
    return not there and finding.looks_like not in ("", finding.sku)
