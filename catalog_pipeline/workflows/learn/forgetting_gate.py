"""The forgetting gate: earlier SKUs and the base must look under a candidate as they did before.

"Before" is rendered with the head's weights right before the task, "after" with the
candidate's, at the same prompts and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from catalog_pipeline.errors import QualityGateError
from catalog_pipeline.records import (
    SHARED,
    AdapterVersion,
    Concept,
    Features,
    Pixels,
    part_owner,
)
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.learn.fidelity_gate import (
    GATE_PROMPTS,
    cached_base_only,
    render_base_only,
    render_samples,
)
from catalog_pipeline.workflows.learn.forgetting_report import (
    BASE_ONLY,
    Comparison,
    ForgettingReport,
)
from catalog_pipeline.workflows.learn.learning_inputs import LearningTools

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.sampling import SamplingPlan
    from catalog_pipeline.learning.methods.method import LifelongMethod

_PROBE_STEPS = 4
"""Two pictures that must be equal bit by bit need not be beautiful."""


def open_gate(
    tools: LearningTools,
    method: LifelongMethod,
    concept: Concept,
    settings: LearningSettings,
    objects: ObjectStore,
) -> ForgettingGate:
    """Render "before": ``method`` must be open on what was learned before ``concept``.

    Where a task changes a slot that all prompts go through, at most
    ``gate_retention_concepts`` earlier SKUs, in turn, and base-only prompts against the
    bare base. Where it may change nothing (``method.exact``), a quick picture of one
    earlier SKU, another one each task, and one base-only picture prove it; that the stored
    parts are the same is proved by :func:`require_untouched_parts`.
    """
    from catalog_pipeline.learning.memory import refreshed

    exact, count = method.exact, settings.gate_retention_concepts
    plan, images = tools.plan, settings.gate_images
    if exact:
        plan, images = replace(plan, steps=min(_PROBE_STEPS, plan.steps)), 1
        count = min(1, count)
    earlier = []
    for known in refreshed(method.learned, count, concept.task - 1):
        if method.reads(known, GATE_PROMPTS) and method.install(known):
            pictures = render_samples(tools, method, known, images, settings.seed, plan)
            photos = method.collection.remembered(known).features
            earlier.append(_Earlier(known, photos, tuple(pictures)))
    if exact:
        prior = render_base_only(tools, settings, min(1, settings.gate_prior_images), method, plan)
    else:
        prior = cached_base_only(tools, settings, objects)
    return ForgettingGate(tools, method, settings, plan, tuple(earlier), prior)


@dataclass(frozen=True)
class _Earlier:
    """An earlier SKU as it looked before the task."""

    concept: Concept
    photos: Features
    pictures: tuple[Pixels, ...]


@dataclass(frozen=True)
class ForgettingGate:
    """Knows how things looked before the task."""

    tools: LearningTools
    method: LifelongMethod
    settings: LearningSettings
    plan: SamplingPlan
    earlier: tuple[_Earlier, ...]
    prior: tuple[Pixels, ...]

    def judge(self) -> ForgettingReport:
        """Render again with what the engine holds now: the candidate."""
        settings, tools, exact = self.settings, self.tools, self.method.exact
        skus = []
        for item in self.earlier:
            count, seed = len(item.pictures), settings.seed
            after = render_samples(tools, self.method, item.concept, count, seed, self.plan)
            skus.append(_compare(tools, item, after))
        prior = None
        if self.prior:
            now = render_base_only(tools, settings, len(self.prior), self.method, self.plan)
            prior = _compare_prior(tools, self.prior, now)
        return ForgettingReport(
            tuple(skus),
            prior,
            0.0 if exact else settings.gate_max_forgetting,
            0.0 if exact else settings.gate_max_prior_drift,
            exact,
        )


def require_untouched_parts(
    parent: AdapterVersion | None, parts: dict[str, str], learned: str
) -> None:
    """Raises ``QualityGateError`` when ``parts`` alter or drop what ``parent`` holds of others.

    Only the parts of the SKU ``learned`` and the shared slot may differ.
    """
    if parent is None:
        return
    mine = {SHARED, *(name for name in parent.parts if part_owner(name) == learned)}
    changed = sorted(
        name
        for name, digest in parent.parts.items()
        if name not in mine and parts.get(name) != digest
    )
    if changed:
        raise QualityGateError(
            f"{learned}: the candidate changes the parts {', '.join(changed[:5])} of version "
            f"{parent.version}; expected every part of another SKU to keep its hash; the head "
            "stays as it was; this is an error of the program, please report it"
        )


def _compare(tools: LearningTools, item: _Earlier, after: Sequence[Pixels]) -> Comparison:
    from catalog_pipeline.evaluation.retention import cosine_to_photos

    first, second = (
        float(cosine_to_photos(tools.encoder.encode(pictures), item.photos))
        for pictures in (item.pictures, after)
    )
    return Comparison(item.concept.sku, first, second, item.pictures, tuple(after))


def _compare_prior(
    tools: LearningTools, before: Sequence[Pixels], after: Sequence[Pixels]
) -> Comparison:
    from catalog_pipeline.evaluation.retention import prior_drift

    drift = prior_drift(tools.encoder.encode(before), tools.encoder.encode(after))
    return Comparison(BASE_ONLY, 1.0, 1.0 - drift, tuple(before), tuple(after))
