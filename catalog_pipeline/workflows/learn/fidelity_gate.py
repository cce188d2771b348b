"""The quality gate: a candidate is rendered and measured before it may become the head.

Here: what it renders, and the new SKU against its own photos. What it may have done to
the others is measured in :mod:`catalog_pipeline.workflows.learn.forgetting_gate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from catalog_pipeline.records import Concept, Features, Photo, Pixels
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.learn.learning_inputs import (
    LearningTools,
    digest,
    identifier_prompts,
)

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.sampling import SamplingPlan

GATE_PROMPTS = (
    "a photo of a {concept}",
    "a photo of a {concept} on a white background",
    "a photo of a {concept} on a wooden table",
    "a photo of a {concept} on a sandy beach",
)
PRIOR_NOUNS = ("mug", "backpack", "chair", "teapot", "lamp", "sneaker", "vase", "book")
"""The same for every task, so that figures of tasks compare; scenes come from the settings."""

FIDELITY_ADVICE = "take clearer photos of the product alone, or raise learning.yaml: steps"

_BATCH = 8


@dataclass(frozen=True)
class FidelityReport:
    """What the gate measured, and the pictures it judged."""

    metrics: dict[str, float]
    samples: list[Pixels] = field(default_factory=list)


def render_samples(
    tools: LearningTools,
    concept: Concept,
    slot: str,
    count: int,
    seed: int,
    plan: SamplingPlan | None = None,
) -> list[Pixels]:
    """``count`` pictures of ``concept`` by the gate's prompts at fixed seeds.

    ``plan`` is that of ``tools`` where none is given.
    """
    prompts = identifier_prompts(
        concept, [GATE_PROMPTS[i % len(GATE_PROMPTS)] for i in range(count)]
    )
    return _render(tools, prompts, slot, _seeds(seed, "gate", count), plan or tools.plan)


def render_base_only(
    tools: LearningTools,
    settings: LearningSettings,
    count: int,
    slot: str | None,
    plan: SamplingPlan,
) -> tuple[Pixels, ...]:
    """``count`` pictures of prompts that name no learned product, through ``slot``.

    ``None`` is the bare base, at any time: no task changes it.
    """
    seeds = _seeds(settings.seed, "gate prior", count)
    return tuple(_render(tools, base_only_prompts(settings, count), slot, seeds, plan))


def base_only_prompts(settings: LearningSettings, count: int) -> list[str]:
    """``count`` class nouns in the scenes of ``settings``, both in turn."""
    nouns, scenes = PRIOR_NOUNS, settings.scenes
    return [f"a photo of a {nouns[i % len(nouns)]} {scenes[i % len(scenes)]}" for i in range(count)]


def cached_base_only(
    tools: LearningTools, settings: LearningSettings, objects: ObjectStore
) -> tuple[Pixels, ...]:
    """``gate_prior_images`` pictures of the bare base; rendered once a base, then cached."""
    from catalog_pipeline.learning.augmentation import Backdrop
    from catalog_pipeline.learning.memory import decode_backdrops, encode_backdrops

    base, count = tools.engine.base, settings.gate_prior_images
    if not count:
        return ()
    prompts = base_only_prompts(settings, count)
    kind = {"seed": settings.seed, "plan": repr(tools.plan), "dtype": str(base.dtype)}
    asked = digest({"prompts": prompts, **kind})
    key = f"base/{base.content_hash[:16]}/prior-{asked[:16]}.safetensors"
    if objects.exists(key):
        return tuple(found.pixels for found in decode_backdrops(objects.read(key).data))
    pictures = render_base_only(tools, settings, count, None, tools.plan)
    named = [Backdrop(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]
    objects.put(key, encode_backdrops(named))
    return pictures


def _seeds(seed: int, name: str, count: int) -> list[int]:
    from catalog_pipeline.learning.memory import derive_seed

    return [derive_seed(seed, name, index) for index in range(count)]


def _render(
    tools: LearningTools,
    prompts: Sequence[str],
    slot: str | None,
    seeds: Sequence[int],
    plan: SamplingPlan,
) -> list[Pixels]:
    from catalog_pipeline.diffusion.sampling import RegionalPrompt

    pictures: list[Pixels] = []
    for start in range(0, len(prompts), _BATCH):
        chunk = slice(start, start + _BATCH)
        batch = [RegionalPrompt((prompt,), (slot,)) for prompt in prompts[chunk]]
        pictures += tools.engine.decode(tools.engine.sample(batch, seeds[chunk], plan))
    return pictures


def judge_new_concept(
    tools: LearningTools,
    concept: Concept,
    slot: str,
    photo_features: Features,
    settings: LearningSettings,
    ceiling_images: Sequence[Photo],
) -> FidelityReport:
    """Render the candidate and compare it with its own photos.

    ``fidelity`` is the mean feature cosine to the photos, ``ceiling`` that of
    the photos among themselves, ``fidelity_share`` their ratio.
    """
    from catalog_pipeline.evaluation.retention import (
        cosine_to_photos,
        fidelity_share,
        photo_ceiling,
    )

    samples = render_samples(tools, concept, slot, settings.gate_images, settings.seed)
    fidelity = float(cosine_to_photos(tools.encoder.encode(samples), photo_features))
    ceiling = float(photo_ceiling(photo_features))
    metrics = {
        "fidelity": fidelity,
        "ceiling": ceiling,
        "fidelity_share": float(fidelity_share(fidelity, ceiling)),
        "photos": float(len(ceiling_images)),
    }
    return FidelityReport(metrics, samples)


def fidelity_complaint(result: FidelityReport, settings: LearningSettings) -> str:
    """What was got and expected when the candidate does not look like its photos, else ``""``."""
    share = result.metrics["fidelity_share"]
    if share >= settings.gate_min_fidelity_share:
        return ""
    return (
        f"the learned concept reaches {share:.0%} of its photos' own similarity, expected at "
        f"least {settings.gate_min_fidelity_share:.0%}"
    )
