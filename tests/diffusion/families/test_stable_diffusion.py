"""Stable Diffusion's training: noisy latents and targets of a slow loop, and their invariants."""

from __future__ import annotations

import pytest
import torch
from diffusers import UniPCMultistepScheduler

from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.families.stable_diffusion import StableDiffusion
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.settings import AdapterSettings, BaseModelSettings, GenerationSettings
from tests.tiny_model import write_tiny_model

Z, EPS = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Tiny bases by prediction type."""
    return {
        kind: load_base_model(
            BaseModelSettings(
                base_model=str(write_tiny_model(tmp_path_factory.mktemp(kind) / "model", kind)),
                dtype="float32",
            )
        )
        for kind in ("epsilon", "v_prediction")
    }


def test_target_is_the_noise_or_the_velocity_of_a_slow_loop(bases):
    times = torch.tensor([0, 500, 998])
    assert torch.equal(bases["epsilon"].target(Z, EPS, times), EPS)
    velocity = bases["v_prediction"].target(Z, EPS, times)
    noisy = bases["v_prediction"].add_noise(Z, EPS, times)
    for image, t in enumerate(times.tolist()):
        a = bases["v_prediction"].parts["scheduler"].alphas_cumprod[t]
        want = a.sqrt() * EPS[image] - (1 - a).sqrt() * Z[image]
        torch.testing.assert_close(velocity[image], want)
        torch.testing.assert_close(noisy[image], a.sqrt() * Z[image] + (1 - a).sqrt() * EPS[image])


def test_noise_and_velocity_give_the_picture_back(bases):
    """``sqrt(a) z_t - sqrt(1 - a) v = z`` and ``sqrt(1 - a) z_t + sqrt(a) v = eps``."""
    base, times = bases["v_prediction"], torch.tensor([1, 400, 998])
    noisy, velocity = base.add_noise(Z, EPS, times), base.target(Z, EPS, times)
    a = base.parts["scheduler"].alphas_cumprod[times][:, None, None, None]
    torch.testing.assert_close(a.sqrt() * noisy - (1 - a).sqrt() * velocity, Z, atol=1e-5, rtol=0)
    torch.testing.assert_close((1 - a).sqrt() * noisy + a.sqrt() * velocity, EPS, atol=1e-5, rtol=0)


def test_timesteps_are_drawn_from_the_whole_schedule_and_stand_at_shares_of_it(bases):
    base = bases["epsilon"]
    drawn = base.draw_timesteps(4000, torch.Generator().manual_seed(0))
    assert (int(drawn.min()), int(drawn.max())) == (0, 999)
    assert base.timesteps_at(torch.tensor([0.0, 0.5, 0.999])).tolist() == [0, 500, 999]


def test_a_solver_is_a_line_of_the_table_and_one_of_the_settings(bases, monkeypatch):
    (choices,) = [GenerationSettings.model_fields["sampler"].annotation]
    assert set(choices.__args__) == set(StableDiffusion.solvers)
    solvers = {**StableDiffusion.solvers, "unipc": UniPCMultistepScheduler}
    monkeypatch.setattr(StableDiffusion, "solvers", solvers)
    engine = DiffusionEngine(bases["epsilon"], AdapterSettings(rank=2))
    plan = SamplingPlan(3, 2.0, 16, 16, "unipc")
    latents = engine.sample([RegionalPrompt(("a mug",), (None,))], [1], plan)
    assert latents.isfinite().all()


def test_timesteps_are_one_of_each_part_of_the_schedule_in_any_order(bases):
    base = bases["epsilon"]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([base.draw_timesteps(4, generator) for _ in range(200)])
    assert (drawn.sort(dim=1).values // 250).tolist() == [[0, 1, 2, 3]] * 200
    assert drawn[:, 0].float().std() > 200, "the first of a batch is of any part"
    assert base.timesteps_at(torch.tensor([0.0, 1.0])).tolist() == [0, 999]
