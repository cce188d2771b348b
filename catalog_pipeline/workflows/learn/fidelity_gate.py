"""The quality gate: a candidate is rendered and measured before it may become the head.

Here: what it renders, and the new SKU against its own photos. What it may have done to
the others is measured in :mod:`catalog_pipeline.workflows.learn.forgetting_gate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.records import COLOR_SPREAD, Concept, Pixels
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.learn.learning_inputs import LearningTools

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.sampling import RegionalPrompt, SamplingPlan
    from catalog_pipeline.learning.methods.collection import NewConcept
    from catalog_pipeline.learning.methods.method import LifelongMethod

GATE_PROMPTS = (
    "a photo of a {concept}",
    "a photo of a {concept} on a white background",
    "a photo of a {concept} on a wooden table",
    "a photo of a {concept} on a sandy beach",
)
PRIOR_NOUNS = ("mug", "backpack", "chair", "teapot", "lamp", "sneaker", "vase", "book")
"""The same for every task, so that figures of tasks compare; scenes come from the settings."""

FIDELITY_ADVICE = (
    "take clearer photos of the product alone, or raise learning.yaml: steps, or minutes_per_sku "
    "where it is set"
)

_BATCH = 8


@dataclass(frozen=True)
class FidelityReport:
    """What the gate measured, and the pictures it judged."""

    metrics: dict[str, float]
    samples: list[Pixels] = field(default_factory=list)


def render_samples(
    tools: LearningTools,
    method: LifelongMethod,
    concept: Concept,
    count: int,
    seed: int,
    plan: SamplingPlan | None = None,
) -> list[Pixels]:
    """``count`` pictures of ``concept`` by the gate's prompts at fixed seeds.

    ``plan`` is that of ``tools`` by default.
    """
    templates = [GATE_PROMPTS[i % len(GATE_PROMPTS)] for i in range(count)]
    prompts = [method.regional_prompt(template, concept) for template in templates]
    return _render(tools, prompts, _seeds(seed, "gate", count), plan or tools.plan)


def render_base_only(
    tools: LearningTools,
    settings: LearningSettings,
    count: int,
    method: LifelongMethod | None,
    plan: SamplingPlan,
) -> tuple[Pixels, ...]:
    """``count`` pictures of prompts that name no learned product, as ``method`` routes them.

    ``None`` is the bare base, at any time: no task changes it.
    """
    from catalog_pipeline.diffusion.sampling import RegionalPrompt

    prompts = [
        method.regional_prompt(prompt, None) if method else RegionalPrompt((prompt,), (None,))
        for prompt in base_only_prompts(settings, count)
    ]
    return tuple(_render(tools, prompts, _seeds(settings.seed, "gate prior", count), plan))


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
    asked = canonical_sha256({"prompts": prompts, **kind})
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
    prompts: Sequence[RegionalPrompt],
    seeds: Sequence[int],
    plan: SamplingPlan,
) -> list[Pixels]:
    pictures: list[Pixels] = []
    for start in range(0, len(prompts), _BATCH):
        chunk = slice(start, start + _BATCH)
        pictures += tools.engine.decode(tools.engine.sample(prompts[chunk], seeds[chunk], plan))
    return pictures


def judge_new_concept(
    tools: LearningTools, method: LifelongMethod, new: NewConcept, settings: LearningSettings
) -> FidelityReport:
    """Render the candidate and compare it with its own photos.

    ``fidelity`` is the mean feature cosine of whole pictures to the photos, ``ceiling`` that
    of the photos among themselves. What the gate asks is measured on the product alone,
    ``crop_likeness`` and ``crop_ceiling``, and ``fidelity_share`` is their ratio;
    ``color_difference`` and ``color_spread`` are its colours' distance from the photos' and
    these from each other. Where too few photos have a mask, ``fidelity_share`` is of whole
    pictures and the others are absent.
    """
    from catalog_pipeline.evaluation.learned_looks import compare_looks
    from catalog_pipeline.evaluation.retention import (
        cosine_to_photos,
        fidelity_share,
        photo_ceiling,
    )

    samples = render_samples(tools, method, new.concept, settings.gate_images, settings.seed)
    fidelity = cosine_to_photos(tools.encoder.encode(samples), new.features)
    ceiling = photo_ceiling(new.features)
    metrics = {
        "fidelity": fidelity,
        "ceiling": ceiling,
        "fidelity_share": fidelity_share(fidelity, ceiling),
        "photos": float(len(new.photos)),
    }
    looks = compare_looks(samples, new.photos, tools.masker, tools.encoder)
    if looks is not None:
        metrics |= {
            "fidelity_share": looks.share,
            "crop_likeness": looks.likeness,
            "crop_ceiling": looks.ceiling,
            "color_difference": looks.color_difference,
            COLOR_SPREAD: looks.color_spread,
        }
    return FidelityReport(metrics, samples)


def fidelity_complaint(report: FidelityReport, settings: LearningSettings) -> str:
    """What was got and expected when the candidate does not look like its photos, else ``""``."""
    metrics, complaints = report.metrics, []
    share, least = metrics["fidelity_share"], settings.gate_min_fidelity_share
    if share < least:
        complaints.append(
            f"the learned concept reaches {share:.0%} of its photos' own similarity, expected at "
            f"least {least:.0%}"
        )
    if COLOR_SPREAD in metrics:
        difference, spread = metrics["color_difference"], metrics[COLOR_SPREAD]
        most = spread + settings.gate_max_color_shift
        if difference > most:
            complaints.append(
                f"its colours are {difference:.1f} from its photos' (CIELAB), expected at most "
                f"{most:.1f}, these being {spread:.1f} from each other"
            )
    return "; ".join(complaints)
