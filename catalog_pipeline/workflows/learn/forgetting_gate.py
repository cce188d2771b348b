"""The forgetting gate: earlier SKUs and the base must look under a candidate as they did before.

"Before" is rendered with the head's weights right before the task, "after" with the
candidate's, at the same prompts and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from catalog_pipeline.errors import QualityGateError
from catalog_pipeline.records import AdapterVersion, Concept, Features, Pixels
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.learn.fidelity_gate import (
    cached_base_only,
    render_base_only,
    render_samples,
)
from catalog_pipeline.workflows.learn.forgetting_report import (
    BASE_ONLY,
    Comparison,
    ForgettingReport,
)
from catalog_pipeline.workflows.learn.learning_inputs import SHARED, LearningTools, tasks_so_far
from catalog_pipeline.workflows.models import read_named_part

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.sampling import SamplingPlan

_PROBE_STEPS = 4
"""Two pictures that must be equal bit by bit need not be beautiful."""


class ForgettingGate(Protocol):
    """Knows how things looked before the task."""

    def judge(self) -> ForgettingReport:
        """Render again with what the engine holds now: the candidate."""


def open_gate(
    tools: LearningTools,
    objects: ObjectStore,
    store: AdapterStore,
    parent: AdapterVersion | None,
    concept: Concept,
    settings: LearningSettings,
) -> ForgettingGate:
    """Render "before" with ``parent``, whose shared slot (if any) the engine must hold."""
    if settings.adapter.slots == "shared":
        return SharedSlotGate.before(tools, objects, store, parent, concept.sku, settings)
    return OwnSlotGate.before(tools, store, parent, concept.sku, settings)


@dataclass(frozen=True)
class _Earlier:
    """An earlier SKU as it looked before the task."""

    concept: Concept
    slot: str
    photos: Features
    pictures: tuple[Pixels, ...]


@dataclass(frozen=True)
class SharedSlotGate:
    """Every concept goes through one slot that the task changes: all may fall, so measure."""

    tools: LearningTools
    settings: LearningSettings
    earlier: tuple[_Earlier, ...]
    prior: tuple[Pixels, ...]

    @classmethod
    def before(
        cls,
        tools: LearningTools,
        objects: ObjectStore,
        store: AdapterStore,
        parent: AdapterVersion | None,
        leave_out: str,
        settings: LearningSettings,
    ) -> SharedSlotGate:
        """At most ``gate_retention_concepts`` SKUs, in turn, and the bare base."""
        chosen = _in_turn(parent, leave_out, settings.gate_retention_concepts)
        earlier = []
        for concept in chosen:
            assert parent is not None
            pictures = render_samples(tools, concept, SHARED, settings.gate_images, settings.seed)
            photos = _photo_features(store, parent, concept)
            earlier.append(_Earlier(concept, SHARED, photos, tuple(pictures)))
        return cls(tools, settings, tuple(earlier), cached_base_only(tools, settings, objects))

    def judge(self) -> ForgettingReport:
        """Compare each chosen SKU and the base-only prompts, all through the shared slot."""
        settings, tools = self.settings, self.tools
        skus = []
        for item in self.earlier:
            after = render_samples(
                tools, item.concept, item.slot, settings.gate_images, settings.seed
            )
            skus.append(_compare(tools, item, after))
        prior = None
        if self.prior:
            now = render_base_only(tools, settings, len(self.prior), SHARED, tools.plan)
            prior = _compare_prior(tools, self.prior, now)
        return ForgettingReport(
            tuple(skus), prior, settings.gate_max_forgetting, settings.gate_max_prior_drift
        )


@dataclass(frozen=True)
class OwnSlotGate:
    """No earlier prompt is routed through the new slot: one picture each proves it, exactly.

    That the stored parts are the same is proved by :func:`require_untouched_parts`.
    """

    tools: LearningTools
    settings: LearningSettings
    earlier: tuple[_Earlier, ...]
    prior: tuple[Pixels, ...]

    @classmethod
    def before(
        cls,
        tools: LearningTools,
        store: AdapterStore,
        parent: AdapterVersion | None,
        leave_out: str,
        settings: LearningSettings,
    ) -> OwnSlotGate:
        """One earlier SKU, another one each task, and one base-only picture."""
        plan, earlier = _probe_plan(tools), []
        for concept in _in_turn(parent, leave_out, min(1, settings.gate_retention_concepts)):
            assert parent is not None
            data = read_named_part(store, parent, f"concept/{concept.sku}")
            if not _install(tools, concept, data):
                continue
            pictures = render_samples(tools, concept, concept.sku, 1, settings.seed, plan)
            photos = _photo_features(store, parent, concept)
            earlier.append(_Earlier(concept, concept.sku, photos, tuple(pictures)))
        count = min(1, settings.gate_prior_images)
        prior = render_base_only(tools, settings, count, None, plan)
        return cls(tools, settings, tuple(earlier), prior)

    def judge(self) -> ForgettingReport:
        """The same pictures again, from the slot that was installed before the task."""
        plan, skus = _probe_plan(self.tools), []
        for item in self.earlier:
            after = render_samples(self.tools, item.concept, item.slot, 1, self.settings.seed, plan)
            skus.append(_compare(self.tools, item, after))
            self.tools.engine.adapter.drop_slot(item.slot)
        prior = None
        if self.prior:
            now = render_base_only(self.tools, self.settings, len(self.prior), None, plan)
            prior = _compare_prior(self.tools, self.prior, now)
        return ForgettingReport(tuple(skus), prior, 0.0, 0.0, exact=True)


def require_untouched_parts(
    parent: AdapterVersion | None, parts: dict[str, str], learned: str
) -> None:
    """Raises ``QualityGateError`` when ``parts`` alter or drop what ``parent`` holds of others.

    Only the parts of the SKU ``learned`` and the shared slot may differ.
    """
    if parent is None:
        return
    mine = {SHARED, *(name for name in parent.parts if name.partition("/")[2] == learned)}
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


def _in_turn(parent: AdapterVersion | None, leave_out: str, count: int) -> list[Concept]:
    from catalog_pipeline.learning.memory import refreshed

    if parent is None:
        return []
    concepts = [concept for concept in parent.concepts if concept.sku != leave_out]
    return refreshed(concepts, count, tasks_so_far(parent))


def _photo_features(store: AdapterStore, version: AdapterVersion, concept: Concept) -> Features:
    return decode_memory(read_named_part(store, version, f"memory/{concept.sku}")).features


def _install(tools: LearningTools, concept: Concept, data: bytes) -> bool:
    """Whether ``concept`` can be rendered: not when it was learned with another adapter."""
    from catalog_pipeline.diffusion.parts import install_part

    try:
        install_part(tools.engine, data, slot=concept.sku, tokens=concept.placeholder_tokens)
    except ValueError:
        return False
    return concept.sku in tools.engine.adapter.slots


def _probe_plan(tools: LearningTools) -> SamplingPlan:
    return replace(tools.plan, steps=min(_PROBE_STEPS, tools.plan.steps))


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
