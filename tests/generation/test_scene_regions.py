from __future__ import annotations

import pytest
import torch

from catalog_pipeline.diffusion.sampling import RegionalPrompt
from catalog_pipeline.generation.scene_regions import (
    opening_stages,
    part_regions,
    region_masks,
)
from catalog_pipeline.records import AttentionControl, Region

HALVES = (Region(0, 0, 0.5, 1), Region(0.5, 0, 1, 1))


def pair() -> RegionalPrompt:
    return RegionalPrompt(
        ("a photo of a mug", "a photo of a clock"), ("A", "B"), region_masks(HALVES)
    )


def plan_of(**changes: float) -> list[tuple[int, int, bool]]:
    """Steps, regions and whether slots are silent, of every stage of ten steps."""
    composing = [("a mug and a clock", "a mug and a clock")]
    stages = opening_stages([pair()], composing, ["on grass"], AttentionControl(**changes), 10)
    return [
        (stage.steps, len(stage.batch[0].prompts), stage.batch[0].slots[0] is None)
        for stage in stages
    ]


def test_without_shares_there_is_no_opening():
    assert plan_of() == []
    assert plan_of(apart_share=0.5, gap=0.0) == []


def test_silence_comes_first_and_the_strip_lasts_its_share():
    assert plan_of(silent_share=0.2, apart_share=0.5, gap=0.1) == [(2, 3, True), (3, 3, False)]
    assert plan_of(silent_share=0.5, apart_share=0.2, gap=0.1) == [(2, 3, True), (3, 2, True)]
    assert plan_of(silent_share=0.3) == [(3, 2, True)]
    assert plan_of(apart_share=1.0, gap=0.1) == [(10, 3, False)]


def test_silent_steps_are_told_of_all_products_and_later_ones_of_their_own():
    control = AttentionControl(silent_share=0.2, apart_share=1.0, gap=0.1)
    composing = [("a mug and a clock", "a mug and a clock")]
    silent, parted = opening_stages([pair()], composing, ["on grass"], control, 10)
    assert silent.batch[0].prompts == (*composing[0], "an empty scene on grass")
    assert parted.batch[0].prompts == (*pair().prompts, "an empty scene on grass")


def test_a_small_share_is_one_step():
    assert plan_of(silent_share=0.01) == [(1, 2, True)]


def test_the_strip_lies_along_the_border_and_nowhere_else():
    parted = part_regions(pair(), "on grass", gap=0.25)
    assert parted.prompts[-1] == "an empty scene on grass"
    assert parted.slots == ("A", "B", None)
    assert parted.masks is not None
    assert torch.equal(parted.masks.sum(0), torch.ones(64, 64))
    strip = parted.masks[-1].bool()
    assert strip[:, 24:40].all()
    assert not strip[:, :24].any()
    assert not strip[:, 40:].any()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 96), (32, 64)])
def test_masks_and_strips_fit_pictures_of_any_shape(height: int, width: int):
    masks = region_masks(HALVES, height, width)
    assert masks.shape == (2, height, width)
    assert torch.equal(masks.sum(0), torch.ones(height, width))
    assert masks[0, :, : width // 2].all()
    parted = part_regions(RegionalPrompt(("a", "b"), ("A", "B"), masks), "on grass", 0.125)
    assert parted.masks is not None
    assert parted.masks[-1].sum() == height * width / 8
