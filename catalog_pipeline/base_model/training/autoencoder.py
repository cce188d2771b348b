"""The VAE stage: pictures to latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from catalog_pipeline.base_model.training.architectures import POSTERIOR_STD
from catalog_pipeline.base_model.training.compose import draw_photos, draw_scenes, plan_scenes
from catalog_pipeline.base_model.training.corpus import Corpus
from catalog_pipeline.base_model.training.presets import Preset
from catalog_pipeline.base_model.training.training_log import Deadline, TrainingLog
from catalog_pipeline.base_model.training.training_loop import Stage, run_stage, seed_of

STAGE = "autoencoder"
_EDGE_WEIGHT, _COARSE_EDGE_WEIGHT, _SQUARE_WEIGHT = 1.0, 0.5, 0.5


def reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """How far ``decoded`` is from ``pictures``, both ``(b, 3, s, s)`` in -1..1; returns ``(b,)``.

    ``|d| + 1.0 |grad d| + 0.5 |grad d'| + 0.5 d^2`` with ``d`` the difference and
    ``d'`` the same at half size, each averaged over a picture. The gradient terms
    stand in for a perceptual network: they charge a blurred edge more than a
    shifted tone, and need no weights from elsewhere.
    """
    difference = decoded - pictures
    coarse = F.avg_pool2d(difference, 2)
    return (
        _mean(difference.abs())
        + _EDGE_WEIGHT * _edges(difference)
        + _COARSE_EDGE_WEIGHT * _edges(coarse)
        + _SQUARE_WEIGHT * _mean(difference**2)
    )


def kl_loss(latent_mean: Tensor) -> Tensor:
    """KL divergence from ``N(0, 1)`` of the posterior, per latent value; ``(b, ...)`` to ``(b,)``.

    ``mean^2 / 2`` plus a constant that is left out, since the variance is fixed.
    """
    return _mean(latent_mean**2) / 2


def encode_decode(vae: Any, pictures: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Through the bottleneck and back under posterior noise; ``(decoded, latent means)``, fp32."""
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.is_cuda):
        means = vae.encode(pictures).latent_dist.mean
        noise = torch.randn(means.shape, device=means.device, generator=generator)
        decoded = vae.decode(means + POSTERIOR_STD * noise.to(means.dtype)).sample
    return decoded.float(), means.float()


def draw_mixed(
    corpus: Corpus, count: int, preset: Preset, generator: torch.Generator, seed: int
) -> Tensor:
    """``count`` pictures: a third photos where there are any, the rest scenes."""
    rng = np.random.default_rng(seed)
    photos = count // 3 if len(corpus.photos) else 0
    scenes = plan_scenes(corpus, count - photos, preset.corpus, rng)
    pictures = draw_scenes(scenes, corpus, generator)
    if photos:
        chosen = rng.integers(len(corpus.photos), size=photos)
        pictures = torch.cat([pictures, draw_photos(chosen, corpus, generator)])
    return pictures


def train_autoencoder(
    vae: Any,
    corpus: Corpus,
    preset: Preset,
    *,
    folder: Path,
    seed: int,
    log: TrainingLog,
    deadline: Deadline,
    compiled: bool = False,
) -> bool:
    """Train ``vae`` in place from its checkpoint in ``folder``; whether it is finished."""
    settings = preset.autoencoder
    stage = Stage(
        STAGE, vae, settings.optimizer, folder / f"{STAGE}.safetensors", seed, corpus.device
    )
    forward = torch.compile(encode_decode) if compiled else encode_decode

    def step_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        pictures = draw_mixed(
            corpus, settings.batch_size, preset, generator, seed_of(seed, STAGE, "scenes", step)
        )
        decoded, means = forward(vae, pictures, generator)
        loss = (reconstruction_loss(decoded, pictures) + settings.kl_weight * kl_loss(means)).mean()
        error = F.mse_loss(decoded, pictures).detach()
        return loss, {"psnr": psnr(error)}

    return run_stage(stage, step_loss, log=log, deadline=deadline)


def psnr(mean_square_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of pictures that span -1..1."""
    return -10 * torch.log10(mean_square_error / 4)


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)


def _edges(difference: Tensor) -> Tensor:
    across = difference[..., 1:] - difference[..., :-1]
    down = difference[..., 1:, :] - difference[..., :-1, :]
    return _mean(across.abs()) + _mean(down.abs())
