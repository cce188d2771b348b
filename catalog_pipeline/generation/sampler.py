"""Render jobs -> pictures: prompts, regions and routes for the engine, in fixed-size batches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from torch import Tensor

from catalog_pipeline.diffusion.adapter import slot_of
from catalog_pipeline.diffusion.parts import install_part
from catalog_pipeline.diffusion.sampling import (
    DiffusionEngine,
    RegionalPrompt,
    SamplingPlan,
    Start,
)
from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.anchored import Cutouts, place_in
from catalog_pipeline.generation.attention_maps import select_tokens
from catalog_pipeline.generation.guidance import GuidedBatch, make_control
from catalog_pipeline.generation.prompts import (
    empty_scene,
    own_prompts,
    region_prompts,
    silent_steps,
)
from catalog_pipeline.generation.scene_regions import (
    name_concept,
    opening_stages,
    region_masks,
)
from catalog_pipeline.records import (
    SHARED,
    AttentionControl,
    Concept,
    Pixels,
    RenderJob,
    concept_part,
)
from catalog_pipeline.settings import AdapterSettings

_RESIDENT_CONCEPTS = 256
"""Installed concepts kept in memory; least recently used ones leave first."""


class SceneSampler:
    """Renders jobs of learned products; each SKU is drawn by one version throughout.

    Concepts are loaded when a job first names them, so a night over a few SKUs
    of large collections reads these SKUs only.
    """

    def __init__(
        self,
        engine: DiffusionEngine,
        settings: AdapterSettings,
        read_part: Callable[[str], bytes],
        batch_size: int = 8,
    ) -> None:
        """``read_part(name)`` gives the bytes of the part ``concept/<sku>`` or ``shared``."""
        self._engine = engine
        self._settings = settings
        self._read_part = read_part
        self._batch_size = batch_size
        self._resident: OrderedDict[str, Concept] = OrderedDict()

    @property
    def base_model_hash(self) -> str:
        """Content hash of the base that renders."""
        return self._engine.base.content_hash

    def render(
        self,
        jobs: Sequence[RenderJob],
        concepts: Mapping[str, Concept],
        *,
        strength: float = 1.0,
        cutouts: Cutouts = MappingProxyType({}),
    ) -> list[Pixels]:
        """One picture ``(height, width, 3)`` for each job, in order.

        All jobs of a call share size, steps, guidance, sampler, attention control, number of
        products, mode and strength of the redraw. Batches are filled up to one fixed size, so
        a picture does not depend on which jobs are rendered beside it. ``strength`` multiplies
        the step of the attention control; ``cutouts`` has the products of all anchors.

        Raises:
            GenerationError: jobs that cannot share a batch, an unknown SKU, or no cut-out
                of an anchor.
        """
        if not jobs:
            return []
        plan, control = _shared_plan(jobs)
        for job in jobs:
            for sku in job.skus:
                self._load(sku, concepts)
        pictures: list[Pixels] = []
        for start in range(0, len(jobs), self._batch_size):
            chunk = list(jobs[start : start + self._batch_size])
            padded = chunk + [chunk[-1]] * (self._batch_size - len(chunk))
            if jobs[0].mode == "learned":
                made = self._engine.decode(self._sample(padded, concepts, plan, control, strength))
            else:
                scenes = self._anchor(padded, concepts, plan, control, strength, cutouts)
                made = [finish() for finish in scenes[: len(chunk)]]
            pictures += made[: len(chunk)]
        return pictures

    def _anchor(
        self,
        jobs: Sequence[RenderJob],
        concepts: Mapping[str, Concept],
        plan: SamplingPlan,
        control: AttentionControl,
        strength: float,
        cutouts: Cutouts,
    ) -> list[Callable[[], Pixels]]:
        """What finishes each picture of a full batch that starts from photos."""
        engine = self._engine
        prompts = [
            RegionalPrompt((empty_scene(job.scene),), (None,), negative_prompt=job.negative_prompt)
            for job in jobs
        ]
        backdrop_plan = replace(plan, steps=jobs[0].backdrop_steps)
        scenes = engine.decode(engine.sample(prompts, [job.seed for job in jobs], backdrop_plan))
        placed = [place_in(scene, job, cutouts) for scene, job in zip(scenes, jobs, strict=True)]
        start = engine.encode_images([scene.start for scene in placed])
        redraw = Start(start, jobs[0].strength)
        drawn = engine.decode(self._sample(jobs, concepts, plan, control, strength, redraw))
        # Only an exact picture asks what light is, and what the autoencoder's own doing.
        given = engine.decode(start) if jobs[0].mode == "exact" else drawn
        return [partial(p.finish, d, g) for p, d, g in zip(placed, drawn, given, strict=True)]

    def _sample(
        self,
        jobs: Sequence[RenderJob],
        concepts: Mapping[str, Concept],
        plan: SamplingPlan,
        control: AttentionControl,
        strength: float,
        start: Start | None = None,
    ) -> Tensor:
        """Latents of a full batch."""
        batch = [self._regional_prompt(job, concepts) for job in jobs]
        seeds = [job.seed for job in jobs]
        if len(jobs[0].skus) == 1:
            return self._engine.sample(batch, seeds, plan, start=start)
        shown = [[concepts[sku] for sku in job.skus] for job in jobs]
        scenes = [job.scene for job in jobs]
        composing = [region_prompts(row, s) for row, s in zip(shown, scenes, strict=True)]
        opening = opening_stages(batch, composing, scenes, control, plan.steps)
        guide = None
        if control.method != "none":
            skipped = start.skipped(plan.steps) if start else 0
            first_step = max(silent_steps(control, plan.steps), skipped)
            guided = self._guided_batch(batch, shown, plan, first_step)
            guide = make_control(guided, control, strength)
        return self._engine.sample(batch, seeds, plan, guide, opening, start)

    def _guided_batch(
        self,
        batch: Sequence[RegionalPrompt],
        shown: Sequence[Sequence[Concept]],
        plan: SamplingPlan,
        first_step: int,
    ) -> GuidedBatch:
        """Where the words of the products ``shown`` stand in the prompts of ``batch``."""
        named = [[name_concept(concept) for concept in row] for row in shown]
        base = self._engine.base
        height, width = (side // base.vae_scale_factor for side in (plan.height, plan.width))
        return GuidedBatch(
            select_tokens(self._engine.text, [item.prompts for item in batch], named),
            steps=plan.steps,
            latent_height=height,
            latent_width=width,
            max_pixels=base.map_positions(height, width),
            classifier_free_guidance=plan.guidance > 1.0,
            first_step=first_step,
        )

    def _regional_prompt(self, job: RenderJob, concepts: Mapping[str, Concept]) -> RegionalPrompt:
        named = [concepts[sku] for sku in job.skus]
        masks = None
        if len(job.regions) > 1:  # half the pixels a side: finer than every attention layer
            masks = region_masks(job.regions, job.height // 2, job.width // 2)
        return RegionalPrompt(
            prompts=own_prompts(named, job.scene),
            slots=tuple(self._slot(concept.sku) for concept in named),
            masks=masks,
            negative_prompt=job.negative_prompt,
        )

    def _slot(self, sku: str) -> str:
        return slot_of(sku, self._settings)

    def _load(self, sku: str, concepts: Mapping[str, Concept]) -> None:
        if sku not in concepts:
            raise GenerationError(
                f"a render job names SKU {sku}, which this adapter version has not learned; "
                f"it knows {', '.join(sorted(concepts)) or 'none'}; plan the night again"
            )
        if sku in self._resident:
            self._resident.move_to_end(sku)
            return
        slot, shared = self._slot(sku), self._settings.one_for_all
        try:
            if shared and slot not in self._engine.adapter.slots:
                install_part(self._engine, self._read_part(SHARED), slot=slot)
            install_part(
                self._engine,
                self._read_part(concept_part(sku)),
                slot=None if shared else slot,
                tokens=concepts[sku].placeholder_tokens,
            )
            if slot not in self._engine.adapter.slots:
                raise ValueError(
                    "its part holds token rows only, as with learning.yaml: adapter.slots: shared; "
                    "expected deltas of its own; set adapter.slots back, or learn it anew under "
                    "another home"
                )
        except ValueError as error:
            raise GenerationError(f"the adapter of {sku} does not fit: {error}") from error
        self._resident[sku] = concepts[sku]
        while len(self._resident) > _RESIDENT_CONCEPTS:
            oldest, _ = self._resident.popitem(last=False)
            if not shared:
                self._engine.adapter.drop_slot(oldest)


def _shared_plan(jobs: Sequence[RenderJob]) -> tuple[SamplingPlan, AttentionControl]:
    kinds = {
        (
            SamplingPlan(j.steps, j.guidance, j.width, j.height, j.sampler),
            j.attention,
            (len(j.skus), j.mode, j.strength, j.backdrop_steps, j.output_scale),
        )
        for j in jobs
    }
    if len(kinds) > 1:
        raise GenerationError(
            f"jobs of {len(kinds)} different kinds in one batch; expected one size, solver, "
            "attention control, mode and number of products; group them before rendering"
        )
    plan, control, _ = next(iter(kinds))
    return plan, control
