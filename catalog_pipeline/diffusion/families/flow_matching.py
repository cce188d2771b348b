"""Flow matching with straight paths, arXiv:2210.02747 and arXiv:2209.03003.

With ``x`` latents, ``eps`` unit normal noise and a noise level ``sigma`` in [0, 1]::

    noisy_latents = (1 - sigma) x + sigma eps
    target        = eps - x
    timestep      = 1000 sigma        (num_train_timesteps of the scheduler)

as in the DreamBooth-LoRA scripts of diffusers for Stable Diffusion 3, FLUX.2 and Qwen-Image.
**Differs from them:** noise levels are drawn anywhere in [0, 1], not on 1,000 grid points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.settings import LossWeighting

_LEAST_SIGMA = 1e-3
"""``1 / sigma^2`` is cut off here: one part of diffusers' grid of 1,000."""


class FlowMatching(BaseModel):
    """What families have in common whose denoiser predicts a velocity along straight paths."""

    solvers: ClassVar[Mapping[str, Any]] = {
        "dpmsolver++": DPMSolverMultistepScheduler,
        "euler": FlowMatchEulerDiscreteScheduler,
    }

    spaced_to_zero: ClassVar[bool] = True
    """Whether the pipeline spaces noise levels evenly from 1 to ``1 / steps``, or leaves it to
    the solver."""

    @property
    def _train_timesteps(self) -> int:
        return int(self.scheduler_config["num_train_timesteps"])

    def timesteps_at(self, shares: Tensor) -> Tensor:
        """``1000 sigma``, fp32; a static shift ``s`` of the schedule gives ``sigma`` of a share.

        ``sigma = s u / (1 + (s - 1) u)``, arXiv:2403.03206, Eq. (23). One that depends on the
        picture's size is of sampling alone, as in the scripts.
        """
        shift = self.scheduler_config.get("shift", 1.0)
        if self.scheduler_config.get("use_dynamic_shifting"):
            shift = 1.0
        return shift * shares / (1 + (shift - 1) * shares) * self._train_timesteps

    def _sigmas(self, timesteps: Tensor) -> Tensor:
        return timesteps.float() / self._train_timesteps

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """``(1 - sigma) x + sigma eps``."""
        sigma = self._sigmas(timesteps)[:, None, None, None]
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """``eps - x``."""
        del timesteps
        return noise - latents

    def loss_weights(self, timesteps: Tensor, weighting: LossWeighting) -> Tensor:
        """1, ``1 / sigma^2`` (sigma_sqrt) or ``2 / (pi (1 - 2 sigma + 2 sigma^2))`` (cosmap).

        arXiv:2403.03206, section 3.1, as ``compute_loss_weighting_for_sd3`` of diffusers.
        """
        sigma = self._sigmas(timesteps)
        if weighting == "sigma_sqrt":
            return sigma.clamp(min=_LEAST_SIGMA) ** -2.0
        if weighting == "cosmap":
            return 2 / (torch.pi * (1 - 2 * sigma + 2 * sigma**2))
        return torch.ones_like(sigma)

    def schedule_shift(self, steps: int, height_px: int, width_px: int) -> float:
        """``mu`` of a schedule that depends on the picture's size; ``shift`` is ``exp(mu)``.

        Straight between ``base_shift`` at ``base_image_seq_len`` positions and ``max_shift`` at
        ``max_image_seq_len``, as in diffusers' pipelines.
        """
        del steps
        config = self.scheduler_config
        least, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        positions = self.image_positions(height_px, width_px)
        return float(low + (high - low) * (positions - least) / (most - least))

    def image_positions(self, height_px: int, width_px: int) -> int:
        """Image tokens of a picture of this size."""
        return (height_px // self.vae_scale_factor) * (width_px // self.vae_scale_factor)

    def pipeline_sampler(self, sampler: str) -> str:
        """``euler``: the pipelines give their scheduler sigmas, which the other takes none of."""
        del sampler
        return "euler"

    def make_scheduler(self, sampler: str, steps: int, height_px: int, width_px: int) -> Any:
        """``euler`` as the pipelines have it; ``dpmsolver++`` on the same shifted schedule."""
        dynamic = bool(self.scheduler_config.get("use_dynamic_shifting"))
        shift = {"mu": self.schedule_shift(steps, height_px, width_px)} if dynamic else {}
        if sampler == "euler":
            scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler_config)
            sigmas = {"sigmas": np.linspace(1.0, 1 / steps, steps)} if self.spaced_to_zero else {}
            scheduler.set_timesteps(steps, **sigmas, **shift)
            return scheduler
        self._check_sampler(sampler)
        scheduler = DPMSolverMultistepScheduler.from_config(
            self.scheduler_config,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=self.scheduler_config.get("shift", 1.0),
            use_dynamic_shifting=dynamic,
            time_shift_type="exponential",
        )
        scheduler.set_timesteps(steps, **shift)
        return scheduler
