from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from catalog_pipeline.diffusion.sampling import RegionalPrompt, SamplingPlan, Stage, Start

PLAN = SamplingPlan(steps=3, guidance=4.0, width=16, height=16)


def test_plain_sampling_equals_the_diffusers_pipeline(engine, tiny_model_folder):
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_model_folder, safety_checker=None, dtype=torch.float32
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    noise = engine.initial_noise([7], PLAN)
    want = pipeline(
        "a red mug", num_inference_steps=3, guidance_scale=4.0, latents=noise, output_type="latent"
    ).images
    got = engine.sample([RegionalPrompt(("a red mug",), (None,))], [7], PLAN)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)


def test_a_picture_does_not_depend_on_its_neighbours(engine):
    items = [RegionalPrompt((f"a mug {i}",), (None,)) for i in range(4)]
    batch = engine.sample(items, [1, 2, 3, 4], PLAN)
    other = engine.sample([items[2], items[0], items[0], items[0]], [3, 9, 9, 9], PLAN)
    assert torch.equal(batch[2], other[0])


def test_two_regions_with_one_text_are_one_region(engine):
    masks = torch.zeros(2, 8, 8)
    masks[0, :, :4], masks[1, :, 4:] = 1, 1
    split = engine.sample([RegionalPrompt(("a mug", "a mug"), (None, None), masks)], [1], PLAN)
    whole = engine.sample([RegionalPrompt(("a mug",), (None,))], [1], PLAN)
    torch.testing.assert_close(split, whole, atol=1e-5, rtol=1e-4)


def test_regions_read_their_own_text(engine):
    masks = torch.zeros(2, 8, 8)
    masks[0, :, :4], masks[1, :, 4:] = 1, 1
    mixed = engine.sample(
        [RegionalPrompt(("a mug", "green grass"), (None, None), masks)], [1], PLAN
    )
    whole = engine.sample([RegionalPrompt(("a mug",), (None,))], [1], PLAN)
    assert not torch.allclose(mixed, whole, atol=1e-4)


def test_decode_and_encode_shapes_and_range(engine):
    latents = engine.sample([RegionalPrompt(("a mug",), (None,))], [1], PLAN)
    pictures = engine.decode(latents)
    assert pictures[0].shape == (16, 16, 3)
    assert pictures[0].dtype == np.uint8
    assert engine.encode_images(pictures).shape == (1, 4, 4, 4)


def test_guidance_of_one_needs_no_second_pass(engine):
    plan = SamplingPlan(steps=2, guidance=1.0, width=16, height=16, sampler="ddim")
    assert engine.sample([RegionalPrompt(("a mug",), (None,))], [1], plan).shape == (1, 4, 4, 4)


def test_unknown_solver_is_refused(engine):
    with pytest.raises(ValueError, match="unknown sampler"):
        engine.base.make_scheduler("heun", 2, 16, 16)


def test_a_start_of_full_strength_is_the_noised_picture_at_the_first_step(engine):
    item = RegionalPrompt(("a mug",), (None,))
    latents = torch.zeros(1, 4, 4, 4)
    strong = engine.sample([item], [1], PLAN, start=Start(latents, 1.0))
    plain = engine.sample([item], [1], PLAN)
    # At the first step of a schedule that ends in pure noise nothing of the picture is left.
    torch.testing.assert_close(strong, plain, atol=0.05, rtol=0.05)


def test_the_weaker_a_start_is_noised_the_nearer_the_result_stays(engine):
    item = RegionalPrompt(("a mug",), (None,))
    plan = SamplingPlan(steps=10, guidance=2.0, width=16, height=16)
    start = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    gaps = [
        float((engine.sample([item], [1], plan, start=Start(start, s)) - start).abs().mean())
        for s in (0.1, 0.5, 0.9)
    ]
    assert gaps == sorted(gaps)
    assert gaps[0] < 0.5 * gaps[2]


def test_a_start_leaves_out_the_steps_before_it(engine):
    item = RegionalPrompt(("a mug",), (None,))
    seen = []

    class Watcher:
        def before_step(self, engine, latents, timestep, index, conditioning):
            seen.append(index)
            return latents

        def observer(self, index):
            return None

    plan = SamplingPlan(steps=10, guidance=2.0, width=16, height=16)
    start = Start(torch.zeros(1, 4, 4, 4), 0.3)
    engine.sample([item], [1], plan, Watcher(), [Stage(4, [item])], start)
    assert seen == [7, 8, 9]
    seen.clear()
    engine.sample([item], [1], plan, Watcher(), start=Start(start.latents, 0.01))
    assert seen == [9]
