"""The quality gate: a candidate is rendered and measured before it may become the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from catalog_pipeline.errors import QualityGateError
from catalog_pipeline.records import Concept, Features, Photo, Pixels
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.workflows.learning_inputs import LearningTools, identifier_prompts

if TYPE_CHECKING:
    from catalog_pipeline.learning.memory import RememberedConcept

GATE_PROMPTS = (
    "a photo of a {concept}",
    "a photo of a {concept} on a white background",
    "a photo of a {concept} on a wooden table",
    "a photo of a {concept} on a sandy beach",
)


@dataclass(frozen=True)
class GateResult:
    """What the gate measured, and the pictures it judged."""

    metrics: dict[str, float]
    samples: list[Pixels] = field(default_factory=list)


def render_samples(
    tools: LearningTools, concept: Concept, slot: str, count: int, seed: int
) -> list[Pixels]:
    """``count`` pictures of ``concept`` by the gate's prompts at fixed seeds."""
    from catalog_pipeline.diffusion.sampling import Prompting
    from catalog_pipeline.learning.memory import derive_seed

    prompts = identifier_prompts(
        concept, [GATE_PROMPTS[i % len(GATE_PROMPTS)] for i in range(count)]
    )
    pictures: list[Pixels] = []
    for start in range(0, count, 8):
        part = prompts[start : start + 8]
        seeds = [derive_seed(seed, "gate", start + i) for i in range(len(part))]
        latents = tools.engine.sample([Prompting((p,), (slot,)) for p in part], seeds, tools.plan)
        pictures += tools.engine.decode(latents)
    return pictures


def judge_new_concept(
    tools: LearningTools,
    concept: Concept,
    slot: str,
    photo_features: Features,
    settings: LearningSettings,
    ceiling_images: Sequence[Photo],
) -> GateResult:
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
    return GateResult(metrics, samples)


def require_fidelity(sku: str, result: GateResult, settings: LearningSettings) -> None:
    """Raises ``QualityGateError`` when the candidate does not look like its photos."""
    share = result.metrics["fidelity_share"]
    if share < settings.gate_min_fidelity_share:
        raise QualityGateError(
            f"{sku}: the learned concept reaches {share:.0%} of its photos' own similarity, "
            f"expected at least {settings.gate_min_fidelity_share:.0%}; the head stays as it was; "
            "take clearer photos of the product alone, or raise learning.yaml: steps"
        )


def require_retention(
    tools: LearningTools,
    remembered: Sequence[RememberedConcept],
    settings: LearningSettings,
) -> dict[str, float]:
    """Measure remembered concepts again under the candidate; only a shared slot can forget.

    Raises:
        QualityGateError: a concept fell by more than ``gate_max_forgetting``.
    """
    from catalog_pipeline.evaluation.retention import cosine_to_photos

    drops = {}
    for item in remembered:
        samples = render_samples(
            tools, item.concept, item.slot, settings.gate_images, settings.seed
        )
        now = float(cosine_to_photos(tools.encoder.encode(samples), item.features))
        drops[item.concept.sku] = item.concept.metrics.get("fidelity", now) - now
    fallen = {sku: d for sku, d in drops.items() if d > settings.gate_max_forgetting}
    if fallen:
        named = ", ".join(f"{sku} (-{drop:.3f})" for sku, drop in sorted(fallen.items()))
        raise QualityGateError(
            f"the candidate forgets {named}; expected a fall of at most "
            f"{settings.gate_max_forgetting}; the head stays as it was; raise learning.yaml: "
            "losses.replay_weight or distillation_weight, or use adapter.slots: per_concept"
        )
    return {"forgetting": max(drops.values(), default=0.0)}
