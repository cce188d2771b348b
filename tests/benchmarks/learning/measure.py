"""What is measured after a task: likeness, prior drift, text following, confusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.evaluation.confusion import ConfusionMatrix
from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.evaluation.retention import cosine_to_photos, prior_drift
from catalog_pipeline.evaluation.text_following import SceneRecogniser, scene_part
from catalog_pipeline.learning.memory import derive_seed
from catalog_pipeline.learning.methods.method import LifelongMethod
from catalog_pipeline.records import Concept, Features, Pixels
from catalog_pipeline.workflows.learn.fidelity_gate import GATE_PROMPTS
from tests.benchmarks.learning.looks import Looks, look_at
from tests.benchmarks.learning.products import Product
from tests.benchmarks.learning.references import References, render, render_base_only

_SEED = 0
"""Of the pictures: the same for every method, order and seed of learning."""

MEASURES = 3
"""Number of the present definitions; cells of another one must be measured again."""


def middle_task(tasks: int) -> int:
    """The task in the middle, counted from 1."""
    return max(1, tasks // 2)


def is_milestone(task: int, tasks: int) -> bool:
    """Whether earlier concepts and the prior are measured after ``task``, counted from 1."""
    return task in (middle_task(tasks), tasks)


def measured_concepts(task: int, tasks: int, *, full_matrix: bool) -> range:
    """Indices (from 0) of the concepts measured after ``task``: its own, or all so far."""
    everything = full_matrix or is_milestone(task, tasks)
    return range(0 if everything else task - 1, task)


def scene_of(template: str) -> str:
    """What follows the product in a prompt: ``"a photo of a {concept} in the snow"``."""
    return template.partition("{concept}")[2].strip()


@dataclass(frozen=True)
class Judge:
    """Measures one method on one engine; every cell is measured with the same prompts and seeds."""

    engine: DiffusionEngine
    encoders: Mapping[str, FeatureEncoder]
    masker: ProductMasker
    references: References
    plan: SamplingPlan
    images: int

    def pictures_of(self, method: LifelongMethod, concept: Concept) -> list[Pixels]:
        """``images`` pictures of ``concept``: the gate's prompts in turn."""
        templates = self._templates()
        batch = [method.regional_prompt(template, concept) for template in templates]
        seeds = [derive_seed(_SEED, f"{concept.sku}/measure", i) for i in range(self.images)]
        return render(self.engine, batch, seeds, self.plan)

    def look_at(self, pictures: Sequence[Pixels]) -> Looks:
        """The features of ``pictures`` of one product."""
        return look_at(pictures, self.encoders, self.masker)

    def drift(self, method: LifelongMethod) -> dict[str, float]:
        """By encoder: how far the pictures of base-only prompts have moved."""

        def routed(prompt: str) -> RegionalPrompt:
            return method.regional_prompt(prompt, None)

        pictures = render_base_only(self.engine, routed, self.plan)
        return {
            name: prior_drift(self.references.prior[name], encoder.encode(pictures))
            for name, encoder in self.encoders.items()
        }

    def _templates(self) -> list[str]:
        return measured_templates(self.images)


def measured_templates(images: int) -> list[str]:
    """The prompts of a measurement: the gate's in turn."""
    return [GATE_PROMPTS[index % len(GATE_PROMPTS)] for index in range(images)]


def likeness_figures(looks: Mapping[str, Looks], products: Sequence[Product]) -> dict[str, Any]:
    """By SKU and encoder, the mean cosine to all photos of the product.

    ``fidelity`` is of whole pictures, ``crops`` of the product alone on both sides; the
    latter has no product whose photos cannot be cut out.

    Args:
        looks: SKU -> its pictures.
        products: those of ``looks`` at least.
    """
    of = {product.sku: product for product in products}
    return {
        "fidelity": {sku: _likeness(look.whole, of[sku].features) for sku, look in looks.items()},
        "crops": {
            sku: _likeness(look.crops, of[sku].crops)
            for sku, look in looks.items()
            if of[sku].crops
        },
    }


def _likeness(pictures: Mapping[str, Features], photos: Mapping[str, Features]) -> dict[str, float]:
    return {name: cosine_to_photos(rows, photos[name]) for name, rows in pictures.items()}


def final_figures(
    looks: Mapping[str, Looks],
    products: Sequence[Product],
    references: References,
    images: int,
) -> dict[str, Any]:
    """What the last pictures say beyond likeness, by encoder.

    Args:
        looks: SKU -> its pictures.
        products: every product of the cell.
        references: pictures of the bare base.
        images: of each product, so that the prompts are known.
    """
    templates = measured_templates(images)
    scenes = references.scenes
    generated = {sku: look.whole for sku, look in looks.items()}
    return {
        "measures": MEASURES,
        "text_following": {
            name: share
            for name, known in scenes.items()
            if (share := text_following(generated, name, known, templates)) is not None
        },
        "base_text_following": {
            name: share
            for name, known in scenes.items()
            if (share := base_text_following(known, templates)) is not None
        },
        "confusion": {name: confusion(generated, name, products) for name in scenes},
    }


def text_following(
    generated: Mapping[str, Mapping[str, Features]],
    encoder: str,
    known: Mapping[str, Features],
    templates: Sequence[str],
) -> float | None:
    """Share of pictures whose scene is the one that their prompt named.

    The scenes are those that the prompts name; prompts without one do not count. From
    the pictures of a product what they share is taken off, which is the product and
    not the scene; the prototypes are made alike. ``None`` with fewer than two scenes.
    """
    scenes = [scene_of(template) for template in templates]
    told = [index for index, scene in enumerate(scenes) if scene]
    asked = [scenes[index] for index in told]
    if len(set(asked)) < 2:
        return None
    recogniser = SceneRecogniser.fit(_scene_parts(known, asked))
    each = [
        recogniser.accuracy(scene_part(rows[encoder][told]), asked) for rows in generated.values()
    ]
    return float(np.mean(each))


def base_text_following(known: Mapping[str, Features], templates: Sequence[str]) -> float | None:
    """The same of the base's own pictures: what one scores that follows prompts as the base does.

    Each thing that the base was asked for is left out of the prototypes in turn.
    """
    asked = list(dict.fromkeys(scene for t in templates if (scene := scene_of(t))))
    if len(asked) < 2:
        return None
    parts = _scene_parts(known, asked)
    each = []
    for thing in range(len(next(iter(parts.values())))):
        others = {scene: np.delete(rows, thing, axis=0) for scene, rows in parts.items()}
        left_out = np.stack([rows[thing] for rows in parts.values()])
        each.append(SceneRecogniser.fit(others).accuracy(left_out, asked))
    return float(np.mean(each))


def _scene_parts(known: Mapping[str, Features], asked: Sequence[str]) -> dict[str, Features]:
    """``known`` for the asked scenes, less what one thing's pictures share over them."""
    scenes = list(dict.fromkeys(asked))
    rows = np.stack([known[scene] for scene in scenes])  # (scenes, things, width)
    parts = rows - rows.mean(axis=0, keepdims=True)
    return dict(zip(scenes, parts, strict=True))


def confusion(
    generated: Mapping[str, Mapping[str, Features]], encoder: str, products: Sequence[Product]
) -> dict[str, Any]:
    """The matrix, the share recognised, and the share taken for a class mate (or ``None``)."""
    matrix = ConfusionMatrix.measure(
        {sku: rows[encoder] for sku, rows in generated.items()},
        {product.sku: product.features[encoder] for product in products},
    )
    same_class = matrix.same_class({product.sku: product.class_noun for product in products})
    return {
        "accuracy": matrix.accuracy,
        "same_class": None if math.isnan(same_class) else same_class,
        "matrix": matrix.to_json(),
    }
