"""What is measured after a task: likeness, prior drift, text following, confusion."""

from __future__ import annotations

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
from tests.benchmarks.learning.references import (
    DREAM_SCENES,
    References,
    render,
    render_base_only,
)

_SEED = 0
"""Of the pictures: the same for every method, order and seed of learning."""

MEASURES = 4
"""Number of the present definitions; cells of another one must be measured again."""


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

    def pictures_of(
        self,
        method: LifelongMethod,
        concept: Concept,
        templates: Sequence[str],
        purpose: str = "measure",
    ) -> list[Pixels]:
        """A picture of ``concept`` for each of ``templates``."""
        batch = [method.regional_prompt(template, concept) for template in templates]
        name = f"{concept.sku}/{purpose}"
        seeds = [derive_seed(_SEED, name, index) for index in range(len(templates))]
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


def measured_templates(images: int) -> list[str]:
    """The prompts of a measurement: the gate's in turn."""
    return [GATE_PROMPTS[index % len(GATE_PROMPTS)] for index in range(images)]


def confusion_figures(looks: Mapping[str, Looks], products: Sequence[Product]) -> dict[str, Any]:
    """Which product the pictures look like among ``products``, by encoder."""
    encoders = next(iter(looks.values())).crops
    return {"confusion": {encoder: confusion(looks, encoder, products) for encoder in encoders}}


def dream_templates(count: int) -> list[str]:
    """The first ``count`` prompts in the style of DreamBench."""
    return [f"a photo of a {{concept}} {scene}" for scene in DREAM_SCENES[:count]]


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


def dream_figures(
    looks: Mapping[str, Looks],
    products: Sequence[Product],
    references: References,
    templates: Sequence[str],
) -> dict[str, Any]:
    """Likeness of the product alone, and text following, by other prompts."""
    likeness = {"crops": likeness_figures(looks, products)["crops"]}
    return likeness | text_figures(looks, references, templates)


def _likeness(pictures: Mapping[str, Features], photos: Mapping[str, Features]) -> dict[str, float]:
    return {name: cosine_to_photos(rows, photos[name]) for name, rows in pictures.items()}


def text_figures(
    looks: Mapping[str, Looks], references: References, templates: Sequence[str]
) -> dict[str, Any]:
    """By encoder, how often the pictures are in the scene of their prompt, and the base's own.

    Args:
        looks: SKU -> its pictures, one for each of ``templates``.
        references: pictures of the bare base.
        templates: the prompts.
    """
    scenes = references.scenes
    generated = {sku: look.whole for sku, look in looks.items()}
    return {
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
    looks: Mapping[str, Looks], encoder: str, products: Sequence[Product]
) -> dict[str, Any]:
    """Shares of pictures that look most like their ``own`` product, a ``class_mate`` or
    ``another``, every product alike; and the whole matrix.

    A picture is compared with every product in the form of its photos: the cut-out with
    cut-outs, the whole picture with whole photos where these cannot be cut out.

    Args:
        looks: SKU -> its pictures.
        encoder: of the features.
        products: all products so far, those of ``looks``.
    """
    matrix = ConfusionMatrix.measure(
        {sku: np.hstack([look.crops[encoder], look.whole[encoder]]) for sku, look in looks.items()},
        {product.sku: _either_form(product, encoder) for product in products},
    )
    nouns = np.array([product.class_noun for product in products])
    own = np.eye(len(products), dtype=bool)
    mates = (nouns[:, None] == nouns) & ~own
    groups = {"own": own, "class_mate": mates, "another": ~own & ~mates}
    shares = {name: float((matrix.values * of).sum(1).mean()) for name, of in groups.items()}
    return {**shares, "matrix": matrix.to_json()}


def _either_form(product: Product, encoder: str) -> Features:
    """Photos in the form that there is, zeros for the other: ``(photos, 2 * width)``."""
    whole = product.features[encoder]
    crops = product.crops.get(encoder)
    if crops is None:
        return np.hstack([np.zeros_like(whole), whole])
    return np.hstack([crops, np.zeros_like(crops)])
