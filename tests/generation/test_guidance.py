from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from catalog_pipeline.diffusion.adapter import Route
from catalog_pipeline.diffusion.sampling import (
    Conditioning,
    DiffusionEngine,
    RegionalPrompt,
    SamplingPlan,
)
from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.attention_maps import NamedConcept, select_tokens
from catalog_pipeline.generation.guidance import (
    AttentionBoost,
    AttentionGuide,
    GuidedBatch,
    make_control,
)
from catalog_pipeline.generation.scene_regions import region_masks
from catalog_pipeline.records import AttentionControl, Region
from tests.tiny_model import open_tiny_engine, write_tiny_model

PROMPTS = ("a red mug and a clock", "a mug and a blue clock")
NAMED = [NamedConcept("red", "mug"), NamedConcept("blue", "clock")]
GRADIENT = AttentionControl(
    method="gradient",
    guided_share=1.0,
    step_size=0.05,
    attend_floor=0.1,
    unmix_weight=1.0,
    attend_weight=1.0,
    orthogonal_weight=1.0,
    binding_weight=1.0,
)
BOOST = AttentionControl(method="reweight", guided_share=1.0, step_size=2.0)
PLAN = SamplingPlan(steps=4, guidance=2.0, width=16, height=16)


def halves() -> torch.Tensor:
    return region_masks((Region(0, 0, 0.5, 1), Region(0.5, 0, 1, 1)))


def regional_prompt(regional: bool = True) -> RegionalPrompt:
    if regional:
        return RegionalPrompt(PROMPTS, (None, None), halves())
    return RegionalPrompt(("a red mug and a blue clock",), (None,))


def guided_batch(
    engine: DiffusionEngine, batch: list[RegionalPrompt], plan: SamplingPlan = PLAN
) -> GuidedBatch:
    tokens = select_tokens(engine.text, [b.prompts for b in batch], [NAMED] * len(batch))
    return GuidedBatch(tokens, plan.steps, 4, 4, 4, classifier_free_guidance=plan.guidance > 1)


def sample(engine, control: AttentionControl, seeds=(1, 2), *, regional=True, plan=PLAN, **kw):
    batch = [regional_prompt(regional) for _ in seeds]
    guide = make_control(guided_batch(engine, batch, plan), control, kw.get("strength", 1.0))
    return engine.sample(batch, list(seeds), plan, guide)


def conditioning(engine: DiffusionEngine, batch: list[RegionalPrompt]) -> Conditioning:
    masks = torch.stack([b.masks for b in batch])
    route = Route(tuple(b.slots for b in batch), masks)
    with torch.no_grad():
        return Conditioning(engine.encode_prompts(batch), masks, route)


def test_steps_down_the_gradient_lower_the_loss(engine):
    batch = [regional_prompt(), regional_prompt()]
    guide = AttentionGuide(
        guided_batch(engine, batch), replace(GRADIENT, step_size=0.02, refinements=20)
    )
    latents = engine.initial_noise([1, 2], PLAN)
    moved = guide.before_step(engine, latents, torch.tensor(700), 0, conditioning(engine, batch))
    assert len(guide.losses) == 21
    assert (guide.losses[-1] < guide.losses[0]).all()
    assert moved.shape == latents.shape
    assert not moved.requires_grad


def test_the_gradient_is_that_of_the_loss(engine):
    batch = [regional_prompt()]
    guide = AttentionGuide(guided_batch(engine, batch), GRADIENT)
    encoded, timestep = conditioning(engine, batch), torch.tensor(700)
    latents = engine.initial_noise([1], PLAN)
    loss, gradient = guide._loss_and_gradient(engine, latents, timestep, encoded)
    direction = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    step = 1e-2
    ahead, _ = guide._loss_and_gradient(engine, latents + step * direction, timestep, encoded)
    behind, _ = guide._loss_and_gradient(engine, latents - step * direction, timestep, encoded)
    slope = (ahead - behind).item() / (2 * step)
    assert (gradient * direction).sum().item() / 1024 == pytest.approx(slope, rel=0.05, abs=1e-5)
    assert loss.shape == (1,)


@pytest.mark.parametrize("control", [GRADIENT, BOOST], ids=["gradient", "reweight"])
@pytest.mark.parametrize("regional", [True, False], ids=["regions", "one_prompt"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_changes_the_picture_with_and_without_regions_and_guidance(
    engine, control, regional, guidance
):
    plan = replace(PLAN, guidance=guidance)
    plain = sample(engine, AttentionControl(), regional=regional, plan=plan)
    guided = sample(engine, control, regional=regional, plan=plan)
    assert guided.isfinite().all()
    assert not torch.equal(plain, guided)
    assert torch.equal(guided, sample(engine, control, regional=regional, plan=plan))


@pytest.mark.parametrize("control", [GRADIENT, BOOST], ids=["gradient", "reweight"])
def test_a_picture_does_not_depend_on_its_neighbours(engine, control):
    together = sample(engine, control, seeds=(1, 2, 3))
    alone = sample(engine, control, seeds=(2,))
    assert torch.allclose(together[1], alone[0], atol=1e-4)


def test_pictures_below_the_threshold_stay_as_they_are(engine):
    plain = sample(engine, AttentionControl())
    assert torch.equal(sample(engine, replace(GRADIENT, threshold=1e6)), plain)
    assert torch.equal(sample(engine, replace(GRADIENT, guided_share=0.0)), plain)


def test_nothing_is_guided_before_the_first_step_with_slots(engine):
    batch = GuidedBatch(torch.zeros(1, 2, 2, 77), 10, 4, 4, 4, first_step=2)
    assert [batch.progress(i, 0.4) for i in range(8)] == [
        None,
        None,
        0,
        0.25,
        0.5,
        0.75,
        None,
        None,
    ]
    later = guided_batch(engine, [regional_prompt()])
    guide = AttentionGuide(replace(later, first_step=1), GRADIENT)
    latents = engine.initial_noise([1], PLAN)
    encoded = conditioning(engine, [regional_prompt()])
    assert guide.before_step(engine, latents, torch.tensor(900), 0, encoded) is latents
    assert guide.before_step(engine, latents, torch.tensor(700), 1, encoded) is not latents


def test_strength_makes_the_step_longer(engine):
    plain = sample(engine, AttentionControl())
    moves = [
        (sample(engine, replace(GRADIENT, step_size=0.01), strength=s) - plain).square().mean()
        for s in (0.0, 1.0, 2.0)
    ]
    assert moves[0] == 0 < moves[1] < moves[2]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("control", [GRADIENT, BOOST], ids=["gradient", "reweight"])
def test_works_in_half_precision_and_for_both_prediction_types(
    tmp_path, prediction_type, dtype, control
):
    folder = write_tiny_model(tmp_path / "model", prediction_type)
    engine = open_tiny_engine(folder, dtype)
    batch = [regional_prompt(), regional_prompt()]
    guide = make_control(
        replace(guided_batch(engine, batch), classifier_free_guidance=False), control, 1.0
    )
    assert guide is not None
    encoded, timestep = conditioning(engine, batch), torch.tensor(500)
    latents = engine.initial_noise([1, 2], PLAN)
    moved = guide.before_step(engine, latents, timestep, 0, encoded)
    assert moved.isfinite().all()
    assert torch.equal(moved, latents) == (control is BOOST)
    engine.base.regions.observer = guide.observer(0)
    with torch.no_grad():
        out = engine.predict(
            moved,
            timestep.expand(2),
            encoded.encoder_hidden_states,
            encoded.masks,
            encoded.route,
        )
    assert out.isfinite().all()


def test_the_boost_raises_attention_to_the_own_words_in_the_own_region(engine):
    batch = [regional_prompt()]
    guided = guided_batch(engine, batch)
    boost = AttentionBoost(guided, BOOST)
    boost.before_step(engine, torch.zeros(1), torch.tensor(0), 0, conditioning(engine, batch))
    assert boost.observer(0) is boost
    bias = boost.bias(16)  # (2, regions, pixels, tokens): the negative prompts come first
    assert bias.shape == (2, 2, 16, engine.text.length)
    assert bias[0].abs().sum() == 0
    own = guided.selection[0, 0].sum(0) > 0
    left = bias[1, 0].view(4, 4, -1)
    assert (left[:, :2, own] == 2.0).all()
    assert left[:, 2:].abs().sum() == left[:, :, ~own].abs().sum() == 0


def test_an_unknown_method_is_an_error(engine):
    with pytest.raises(GenerationError, match="'magic' is unknown; expected gradient"):
        make_control(
            guided_batch(engine, [regional_prompt()]), AttentionControl(method="magic"), 1.0
        )
