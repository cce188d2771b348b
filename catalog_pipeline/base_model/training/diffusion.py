"""The diffusion stage: UNet and text encoder learn to take noise off captioned latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from catalog_pipeline.base_model.training.latent_bank import LatentBank
from catalog_pipeline.base_model.training.presets import DiffusionSettings
from catalog_pipeline.base_model.training.training_log import Deadline, TrainingLog
from catalog_pipeline.base_model.training.training_loop import Stage, run_stage

STAGE = "diffusion"


def add_noise(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """``sqrt(a) z + sqrt(1 - a) n``; ``alphas_cumprod`` is ``(b,)``, the rest ``(b, 4, h, w)``."""
    kept = alphas_cumprod[:, None, None, None]
    return kept.sqrt() * latents + (1 - kept).sqrt() * noise


def velocity(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The v-prediction target ``sqrt(a) n - sqrt(1 - a) z``; Eq. (11), arXiv:2202.00512."""
    kept = alphas_cumprod[:, None, None, None]
    return kept.sqrt() * noise - (1 - kept).sqrt() * latents


def min_snr_weight(alphas_cumprod: Tensor, gamma: float) -> Tensor:
    """``min(SNR, gamma) / (SNR + 1)``, ``(b,)`` to ``(b,)``; section 3.4, arXiv:2303.09556."""
    snr = alphas_cumprod / (1 - alphas_cumprod)
    return snr.clamp(max=gamma) / (snr + 1)


def velocity_loss(model_pred: Tensor, target: Tensor) -> Tensor:
    """Mean square error of a picture, ``(b, 4, h, w)`` to ``(b,)``."""
    return ((model_pred.float() - target) ** 2).flatten(1).mean(1)


class DiffusionObjective:
    """The loss of one step, drawn from the bank by the step's own generator."""

    def __init__(
        self,
        unet: Callable[..., Any],
        text_encoder: Any,
        bank: LatentBank,
        null_tokens: Tensor,
        alphas_cumprod: Tensor,
        settings: DiffusionSettings,
    ) -> None:
        """``null_tokens`` ``(1, MAX_TOKENS)`` are the empty caption; all on the bank's device."""
        self._unet, self._text_encoder = unet, text_encoder
        self._bank, self._null_tokens = bank, null_tokens
        self._alphas_cumprod, self._settings = alphas_cumprod, settings

    def __call__(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted v-loss of one batch; a share of the captions is dropped for guidance."""
        latents, tokens = self._draw(generator)
        device = latents.device
        timesteps = torch.randint(
            0, len(self._alphas_cumprod), (len(latents),), device=device, generator=generator
        )
        noise = torch.randn(latents.shape, device=device, generator=generator)
        kept = self._alphas_cumprod[timesteps]
        noisy_latents = add_noise(latents, noise, kept)
        if device.type == "cuda":
            noisy_latents = noisy_latents.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            encoder_hidden_states = self._text_encoder(tokens)[0]
            model_pred = self._unet(
                noisy_latents,
                timesteps,
                encoder_hidden_states=encoder_hidden_states,
                return_dict=False,
            )[0]
        weight = min_snr_weight(kept, self._settings.snr_gamma)
        losses = velocity_loss(model_pred, velocity(latents, noise, kept))
        return (losses * weight).mean() / weight.mean(), {}

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Scaled latents ``(b, 4, h, w)`` and tokens ``(b, MAX_TOKENS)``, some of them null."""
        bank, count = self._bank, self._settings.batch_size
        device = bank.latents.device
        chosen = torch.randint(0, len(bank.latents), (count,), device=device, generator=generator)
        latents = bank.latents[chosen].float() * bank.scaling_factor
        dropped = torch.rand(count, 1, device=device, generator=generator)
        tokens = torch.where(
            dropped < self._settings.caption_dropout, self._null_tokens, bank.tokens[chosen].long()
        )
        return latents, tokens


def train_diffusion(
    unet: Any,
    text_encoder: Any,
    scheduler: Any,
    bank: LatentBank,
    null_tokens: Tensor,
    settings: DiffusionSettings,
    *,
    folder: Path,
    seed: int,
    log: TrainingLog,
    deadline: Deadline,
    compiled: bool = False,
    preview: Callable[[int], None] = lambda steps_done: None,
) -> bool:
    """Train both networks in place from their checkpoint in ``folder``; whether finished.

    A finished stage leaves the averaged (EMA) weights in the networks. ``preview``
    is called with the averaged weights in place, every ``preview_every`` steps.
    """
    networks = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    device = bank.latents.device
    if device.type == "cuda":
        unet.to(memory_format=torch.channels_last)
    path = folder / f"{STAGE}.safetensors"
    stage = Stage(STAGE, networks, settings.optimizer, path, seed, device)
    objective = DiffusionObjective(
        torch.compile(unet) if compiled else unet,
        text_encoder,
        bank,
        null_tokens.to(device),
        scheduler.alphas_cumprod.to(device).float(),
        settings,
    )

    def show(steps_done: int) -> None:
        if settings.preview_every and steps_done % settings.preview_every == 0:
            _with_averages(stage, preview)

    finished = run_stage(stage, objective, log=log, deadline=deadline, after_step=show)
    if finished and stage.ema is not None:
        stage.ema.swap()
    return finished


def _with_averages(stage: Stage, preview: Callable[[int], None]) -> None:
    if stage.ema is None:
        preview(stage.steps_done)
        return
    stage.ema.swap()
    try:
        preview(stage.steps_done)
    finally:
        stage.ema.swap()
