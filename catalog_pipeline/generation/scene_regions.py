"""The regions of a scene, and in which order they read their prompts over the denoising steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from catalog_pipeline.diffusion.sampling import RegionalPrompt, Stage
from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.attention_maps import NamedConcept
from catalog_pipeline.generation.prompts import apart_steps, empty_scene, silent_steps
from catalog_pipeline.records import AttentionControl, Concept, Region

_MASK_SIDE = 64


def name_concept(concept: Concept) -> NamedConcept:
    """How prompts say a learned concept: its placeholder tokens before its class noun."""
    return NamedConcept(" ".join(concept.placeholder_tokens), concept.class_noun)


def opening_stages(
    batch: Sequence[RegionalPrompt],
    composing: Sequence[tuple[str, ...]],
    scenes: Sequence[str],
    control: AttentionControl,
    steps: int,
) -> tuple[Stage, ...]:
    """The prompts of the first steps, where they differ from ``batch``: composition comes first.

    Where things stand is settled in the first steps. A learned concept's slot, trained
    on pictures of one product, then pulls towards one product in the middle, and two
    such pulls give one thing with two halves. So for ``silent_share`` of the steps the
    slots are silent and every region reads of all products (the base composes well);
    after them each reads of its own alone, or the neighbour would be drawn twice.
    For ``apart_share`` a strip of bare background lies between the regions. **Our
    own.** Numbers: docs/benchmarks/generation.md.

    Args:
        batch: the prompts of the later steps, of two regions or more.
        composing: the texts of each image's regions in the silent steps.
        scenes: the scene of each image, which the strip shows.
        control: shares and the strip's width.
        steps: denoising steps in all.
    """
    silent = silent_steps(control, steps)
    apart = apart_steps(control, steps)
    parted = _part(batch, scenes, control.gap) if apart else list(batch)
    quiet = [
        replace(item, prompts=texts, slots=(None,) * len(item.slots))
        for item, texts in zip(batch, composing, strict=True)
    ]
    stages = []
    for start, end, prompts in (
        (0, min(silent, apart), _part(quiet, scenes, control.gap) if apart else quiet),
        (apart, silent, quiet),
        (silent, apart, parted),
    ):
        if end > start:
            stages.append(Stage(end - start, prompts))
    return tuple(stages)


def _part(
    batch: Sequence[RegionalPrompt], scenes: Sequence[str], gap: float
) -> list[RegionalPrompt]:
    return [part_regions(item, scene, gap) for item, scene in zip(batch, scenes, strict=True)]


def part_regions(item: RegionalPrompt, scene: str, gap: float) -> RegionalPrompt:
    """``item`` with one region more, last: a strip of background along every inner border.

    The strip has half of ``gap`` on both sides of a border. It reads "an empty scene"
    in the words that concepts were trained beside (``learning/augmentation.py``).
    """
    assert item.masks is not None
    strip = _inner_borders(item.masks, gap)
    masks = torch.cat([item.masks * (1 - strip), strip[None]])
    return replace(
        item,
        prompts=(*item.prompts, empty_scene(scene)),
        slots=(*item.slots, None),
        masks=masks,
    )


def _inner_borders(masks: Tensor, gap: float) -> Tensor:
    """``(h, w)`` in {0, 1}: what is nearer than ``gap / 2`` to a pixel of another region."""
    height, width = masks.shape[-2:]
    reach = (round(gap / 2 * height), round(gap / 2 * width))
    window = (2 * reach[0] + 1, 2 * reach[1] + 1)
    # A region dilated by the reach, and of that what belongs to others.
    dilated = torch.nn.functional.max_pool2d(masks[:, None], window, stride=1, padding=reach)[:, 0]
    return ((dilated > 0.5) & (masks < 0.5)).any(0).float()


def region_masks(
    regions: Sequence[Region], height: int = _MASK_SIDE, width: int = _MASK_SIDE
) -> Tensor:
    """``(regions, height, width)`` masks, 1 together: the boxes, elsewhere the nearest box.

    Raises:
        GenerationError: a region that is empty or leaves the image.
    """
    rows = ((torch.arange(height) + 0.5) / height)[:, None]
    columns = ((torch.arange(width) + 0.5) / width)[None, :]
    distances = []
    for box in regions:
        if not (0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1):
            raise GenerationError(
                f"region {box} is not a box inside the image; expected 0 <= left < right <= 1"
            )
        outside_x = (box.left - columns).clamp(min=0) + (columns - box.right).clamp(min=0)
        outside_y = (box.top - rows).clamp(min=0) + (rows - box.bottom).clamp(min=0)
        distances.append(outside_y**2 + outside_x**2)
    distance = torch.stack(distances)  # (regions, height, width)
    nearest = (distance == distance.min(0).values).float()
    return nearest / nearest.sum(0)
