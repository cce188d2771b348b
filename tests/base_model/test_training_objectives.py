"""Each formula of the recipe against a slow loop or its inverse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from catalog_pipeline.base_model.training import architectures
from catalog_pipeline.base_model.training.autoencoder import kl_loss, psnr, reconstruction_loss
from catalog_pipeline.base_model.training.diffusion import (
    add_noise,
    min_snr_weight,
    velocity,
    velocity_loss,
)
from catalog_pipeline.base_model.training.presets import FULL
from catalog_pipeline.base_model.training.training_loop import Ema, learning_rate, seed_of


def test_noise_and_velocity_are_those_of_the_scheduler() -> None:
    scheduler = architectures.scheduler()
    latents, noise = torch.randn(2, 3, 4, 8, 8).unbind(0)
    timesteps = torch.tensor([0, 400, 999])
    kept = scheduler.alphas_cumprod[timesteps]
    noisy = add_noise(latents, noise, kept)
    torch.testing.assert_close(noisy, scheduler.add_noise(latents, noise, timesteps))
    target = velocity(latents, noise, kept)
    torch.testing.assert_close(target, scheduler.get_velocity(latents, noise, timesteps))
    recovered = kept.sqrt()[:, None, None, None] * noisy - (1 - kept).sqrt()[
        :, None, None, None
    ] * (target)
    torch.testing.assert_close(recovered, latents, atol=1e-5, rtol=1e-4)


def test_min_snr_weight_is_the_papers_for_v_prediction() -> None:
    kept = torch.tensor([0.999, 0.9, 0.5, 0.01])
    expected = [min(a / (1 - a), 5.0) / (a / (1 - a) + 1) for a in kept.tolist()]
    torch.testing.assert_close(min_snr_weight(kept, 5.0), torch.tensor(expected))


def test_velocity_loss_is_one_number_a_picture() -> None:
    pred, target = torch.randn(2, 3, 4, 2, 2).unbind(0)
    losses = velocity_loss(pred, target)
    expected = [float(((pred[i] - target[i]) ** 2).sum() / 16) for i in range(3)]
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_reconstruction_loss_equals_a_loop_over_pixels() -> None:
    decoded, pictures = torch.randn(2, 2, 1, 4, 4).unbind(0)
    d = (decoded - pictures)[0, 0].tolist()
    half = [
        [sum(d[2 * y + i][2 * x + j] for i in (0, 1) for j in (0, 1)) / 4 for x in (0, 1)]
        for y in (0, 1)
    ]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def edges(grid: list[list[float]]) -> float:
        n = len(grid)
        across = [abs(grid[y][x + 1] - grid[y][x]) for y in range(n) for x in range(n - 1)]
        down = [abs(grid[y + 1][x] - grid[y][x]) for y in range(n - 1) for x in range(n)]
        return mean(across) + mean(down)

    flat = [value for row in d for value in row]
    expected = mean([abs(v) for v in flat]) + 0.5 * mean([v * v for v in flat])
    expected += edges(d) + 0.5 * edges(half)
    losses = reconstruction_loss(decoded, pictures)
    assert losses.shape == (2,)
    assert float(losses[0]) == pytest.approx(expected, rel=1e-5)
    assert reconstruction_loss(pictures, pictures).tolist() == [0.0, 0.0]


def test_kl_loss_differs_from_the_true_divergence_by_a_constant() -> None:
    means = torch.randn(2, 4, 3, 3)
    spread = architectures.POSTERIOR_STD
    posterior = torch.distributions.Normal(means, torch.full_like(means, spread))
    prior = torch.distributions.Normal(torch.zeros_like(means), torch.ones_like(means))
    true = torch.distributions.kl_divergence(posterior, prior).flatten(1).mean(1)
    constant = spread**2 / 2 - 0.5 - math.log(spread)
    torch.testing.assert_close(kl_loss(means) + constant, true)


def test_psnr_of_the_whole_range_off_is_zero() -> None:
    assert float(psnr(torch.tensor(4.0))) == 0
    assert float(psnr(torch.tensor(0.04))) == pytest.approx(20)


def test_learning_rate_warms_up_holds_and_falls_to_nothing() -> None:
    settings = FULL.diffusion.optimizer
    rates = [learning_rate(step, settings) for step in range(settings.steps)]
    peak = settings.learning_rate
    assert rates[0] == pytest.approx(peak / settings.warmup_steps)
    assert rates[settings.warmup_steps] == rates[int(settings.steps * 0.54)] == peak
    assert rates[-1] < peak * 1e-4
    tail = rates[int(settings.steps * 0.55) + 1 :]
    assert tail == sorted(tail, reverse=True)


def test_ema_follows_its_formula_and_swaps_back() -> None:
    module = nn.Linear(1, 1, bias=False)
    ema = Ema(module, decay=0.5)
    average = module.weight.item()
    for steps_done in (1, 2, 40):
        with torch.no_grad():
            module.weight += 1
        ema.update(steps_done)
        decay = min(0.5, (1 + steps_done) / (10 + steps_done))
        average = decay * average + (1 - decay) * module.weight.item()
    assert float(ema.average["weight"]) == pytest.approx(average)
    trained = module.weight.item()
    ema.swap()
    assert module.weight.item() == pytest.approx(average)
    ema.swap()
    assert module.weight.item() == trained


def test_seeds_differ_by_every_part() -> None:
    seeds = {seed_of(a, b, c) for a in (0, 1) for b in ("x", "y") for c in (0, 1)}
    assert len(seeds) == 8
    assert seed_of(0, "x", 1) == seed_of(0, "x", 1)
