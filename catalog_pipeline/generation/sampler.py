"""Render jobs -> pictures: prompts, regions and routes for the engine, in fixed-size batches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from catalog_pipeline.diffusion.parts import install_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, Prompting, SamplingPlan
from catalog_pipeline.errors import GenerationError
from catalog_pipeline.records import Concept, Pixels, Region, RenderJob
from catalog_pipeline.settings import AdapterSettings

_RESIDENT_CONCEPTS = 256
"""Installed concepts kept in memory; least recently used ones leave first."""


class SceneSampler:
    """Renders jobs with one adapter version of one collection.

    Concepts are loaded when a job first names them, so a night over a few SKUs
    of a large collection reads these SKUs only.
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

    def render(self, jobs: Sequence[RenderJob], concepts: Mapping[str, Concept]) -> list[Pixels]:
        """One picture ``(height, width, 3)`` for each job, in order.

        All jobs of a call share size, steps, guidance, sampler and number of
        products. Batches are filled up to one fixed size, so a picture does not
        depend on which jobs are rendered beside it.

        Raises:
            GenerationError: jobs that cannot share a batch, or an unknown SKU.
        """
        if not jobs:
            return []
        plan = _shared_plan(jobs)
        for job in jobs:
            for sku in job.skus:
                self._load(sku, concepts)
        pictures: list[Pixels] = []
        for start in range(0, len(jobs), self._batch_size):
            chunk = list(jobs[start : start + self._batch_size])
            padded = chunk + [chunk[-1]] * (self._batch_size - len(chunk))
            batch = [self._prompting(job, concepts) for job in padded]
            latents = self._engine.sample(batch, [job.seed for job in padded], plan)
            pictures += self._engine.decode(latents)[: len(chunk)]
        return pictures

    def _prompting(self, job: RenderJob, concepts: Mapping[str, Concept]) -> Prompting:
        named = [concepts[sku] for sku in job.skus]
        masks = region_masks(job.regions) if len(job.regions) > 1 else None
        return Prompting(
            prompts=region_prompts(named, job.scene),
            slots=tuple(self._slot(concept.sku) for concept in named),
            masks=masks,
            negative_prompt=job.negative_prompt,
        )

    def _slot(self, sku: str) -> str:
        return sku if self._settings.slots == "per_concept" else "shared"

    def _load(self, sku: str, concepts: Mapping[str, Concept]) -> None:
        if sku not in concepts:
            raise GenerationError(
                f"a render job names SKU {sku}, which this adapter version has not learned; "
                f"it knows {', '.join(sorted(concepts)) or 'none'}; plan the night again"
            )
        if sku in self._resident:
            self._resident.move_to_end(sku)
            return
        slot = self._slot(sku)
        try:
            if slot == "shared" and slot not in self._engine.adapter.slots:
                install_part(self._engine, self._read_part("shared"), slot=slot)
            install_part(
                self._engine,
                self._read_part(f"concept/{sku}"),
                slot=slot if slot == sku else None,
                tokens=concepts[sku].placeholder_tokens,
            )
        except ValueError as error:
            raise GenerationError(f"the adapter of {sku} does not fit: {error}") from error
        self._resident[sku] = concepts[sku]
        while len(self._resident) > _RESIDENT_CONCEPTS:
            oldest, _ = self._resident.popitem(last=False)
            if self._slot(oldest) == oldest:
                self._engine.adapter.drop_slot(oldest)


def region_prompts(concepts: Sequence[Concept], scene: str) -> tuple[str, ...]:
    """The text that each region reads: its own product by identifier, the others by class noun.

    Every region knows the whole scene, so the base places all products and keeps
    one background; only its own region names a product's placeholder tokens, so
    no region is asked for a neighbour's looks.
    """
    prompts = []
    for own in range(len(concepts)):
        phrases = [
            f"a {concept.identifier}" if index == own else _with_article(concept.class_noun)
            for index, concept in enumerate(concepts)
        ]
        listed = (
            phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
        )
        prefix = "a photo of " if len(phrases) == 1 else ""
        prompts.append(f"{prefix}{listed} {scene}".strip())
    return tuple(prompts)


def _with_article(noun: str) -> str:
    return ("an " if noun[:1] in "aeiou" else "a ") + noun


def region_masks(regions: Sequence[Region], side: int = 64) -> Tensor:
    """``(regions, side, side)`` masks that sum to 1: boxes first, then their nearest box elsewhere.

    Raises:
        GenerationError: a region that is empty or leaves the image.
    """
    centre = (torch.arange(side) + 0.5) / side
    distances = []
    for box in regions:
        if not (0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1):
            raise GenerationError(
                f"region {box} is not a box inside the image; expected 0 <= left < right <= 1"
            )
        outside_x = (box.left - centre).clamp(min=0) + (centre - box.right).clamp(min=0)
        outside_y = (box.top - centre).clamp(min=0) + (centre - box.bottom).clamp(min=0)
        distances.append(outside_y[:, None] ** 2 + outside_x[None, :] ** 2)
    distance = torch.stack(distances)  # (regions, side, side)
    nearest = (distance == distance.min(0).values).float()
    return nearest / nearest.sum(0)


def _shared_plan(jobs: Sequence[RenderJob]) -> SamplingPlan:
    kinds = {
        (SamplingPlan(j.steps, j.guidance, j.width, j.height, j.sampler), len(j.skus)) for j in jobs
    }
    if len(kinds) > 1:
        raise GenerationError(
            f"jobs of {len(kinds)} different kinds in one batch; expected one size, solver and "
            "number of products; group them before rendering"
        )
    return next(iter(kinds))[0]
