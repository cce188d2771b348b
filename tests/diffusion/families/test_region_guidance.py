"""Attention control by maps, in every family: what it raises, and what it lowers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.generation.attention_maps import MapRecorder, NamedConcept, select_tokens
from catalog_pipeline.generation.guidance import (
    AttentionBoost,
    AttentionGuide,
    GuidedBatch,
    make_control,
)
from catalog_pipeline.records import AttentionControl
from tests.diffusion.families.two_regions import (
    CLOCK,
    FAMILIES,
    MUG,
    SIDE,
    encode,
    halves,
    open_filled,
)
from tests.tiny_model import fill_slot, open_tiny_engine

NAMED = [NamedConcept("red", "mug"), NamedConcept("blue", "clock")]
CONTROL = AttentionControl(
    guided_share=1.0,
    step_size=0.02,
    refinements=10,
    attend_floor=0.5,
    unmix_weight=1.0,
    attend_weight=1.0,
    orthogonal_weight=1.0,
    binding_weight=1.0,
)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param](tmp_path_factory.mktemp("family") / request.param)


def guided(engine: DiffusionEngine, items: Sequence[RegionalPrompt]) -> GuidedBatch:
    selection = select_tokens(engine.text, [i.prompts for i in items], [NAMED] * len(items))
    pixels = engine.base.map_positions(SIDE, SIDE)
    return GuidedBatch(selection, 1, SIDE, SIDE, pixels, classifier_free_guidance=False)


class BoostedRecorder(MapRecorder):
    """Records what attention is once ``boost`` has raised it."""

    def __init__(self, batch: GuidedBatch, boost: AttentionBoost | None) -> None:
        super().__init__(batch.selection, batch.max_pixels)
        self._boost = boost

    def bias(self, pixels: int) -> Tensor | None:  # type: ignore[override]
        return None if self._boost is None else self._boost.bias(pixels)


@torch.no_grad()
def maps(engine: DiffusionEngine, item: RegionalPrompt, size: float | None) -> Tensor:
    """``(concepts, h, w)`` of a whole pass, raised by ``size`` where that is given."""
    batch, encoded = guided(engine, [item]), encode(engine, [item])
    boost = None
    latents = engine.initial_noise([1], plan_of(engine))
    if size is not None:
        control = AttentionControl(method="reweight", guided_share=1.0, step_size=size)
        boost = AttentionBoost(batch, control)
        boost.before_step(engine, latents, torch.tensor(600.0), 0, encoded)
        assert boost.observer(0) is boost
    recorder = BoostedRecorder(batch, boost)
    engine.probe(latents, torch.tensor(600.0), encoded, recorder)
    return recorder.maps()[0].mean(1)


def plan_of(engine: DiffusionEngine) -> SamplingPlan:
    side = SIDE * engine.base.vae_scale_factor
    return SamplingPlan(1, 1.0, side, side)


@pytest.mark.parametrize("regional", [True, False], ids=["regions", "one_prompt"])
def test_reweight_raises_a_concept_in_its_region(folder: Path, regional: bool) -> None:
    engine = open_filled(folder)
    item = RegionalPrompt((MUG, CLOCK), ("a", "b"), halves())
    if not regional:
        item = RegionalPrompt((f"{MUG} and a blue clock",), (None,))
    plain, still, raised = (maps(engine, item, size) for size in (None, 0.0, 2.0))
    side = round(engine.base.map_positions(SIDE, SIDE) ** 0.5)
    assert plain.shape == (2, side, side)
    assert torch.equal(plain, still)
    ratio = raised / plain
    if not regional:
        assert (ratio > 1.1).all()
        return
    own = torch.stack([ratio[0, :, : side // 2], ratio[1, :, side // 2 :]])
    foreign = torch.stack([ratio[0, :, side // 2 :], ratio[1, :, : side // 2]])
    assert (own > 1.5).all()
    assert ((foreign - 1).abs() < 0.2).all()


@pytest.mark.parametrize("regional", [True, False], ids=["regions", "one_prompt"])
def test_gradient_lowers_its_own_loss(folder: Path, regional: bool) -> None:
    engine = open_filled(folder)
    item = RegionalPrompt((MUG, CLOCK), ("a", "b"), halves())
    if not regional:
        item = RegionalPrompt((f"{MUG} and a blue clock",), (None,))
    guide = AttentionGuide(guided(engine, [item]), CONTROL)
    latents = engine.initial_noise([1], plan_of(engine))
    with torch.no_grad():
        encoded = encode(engine, [item])
    moved = guide.before_step(engine, latents, torch.tensor(600.0), 0, encoded)
    assert len(guide.losses) == 11
    assert guide.losses[-1] < guide.losses[0]
    assert moved.shape == latents.shape
    assert moved.isfinite().all()


@pytest.mark.parametrize("method", ["gradient", "reweight"])
def test_half_precision_is_guided_too(folder: Path, method: str) -> None:
    engine = open_half(folder)
    item = RegionalPrompt((MUG, CLOCK), ("a", None), halves())
    guide = make_control(
        guided(engine, [item]), replace(CONTROL, method=method, refinements=1), 1.0
    )
    plan = plan_of(engine)
    plain, moved = (engine.sample([item], [1], plan, control) for control in (None, guide))
    assert moved.isfinite().all()
    assert not torch.equal(plain, moved)


@cache
def open_half(folder: Path) -> DiffusionEngine:
    engine = open_tiny_engine(folder, "bfloat16")
    fill_slot(engine, "a", 0)
    return engine
