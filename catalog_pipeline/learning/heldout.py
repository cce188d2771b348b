"""The held-out loss: whether a task still learns."""

from __future__ import annotations

import torch

from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.objective import add_noise, noise_loss
from catalog_pipeline.learning.pool import TrainingPool
from catalog_pipeline.learning.task import Subject
from catalog_pipeline.learning.training_step import TrainingStep


class HeldOut:
    """A fixed question to the student: noised views that training never draws.

    The views come from the same photos, cut and placed anew; noise and
    timesteps are fixed, so that two answers differ by the weights alone.
    """

    def __init__(
        self,
        engine: DiffusionEngine,
        step: TrainingStep,
        subjects: tuple[Subject, ...],
        pools: tuple[TrainingPool, ...],
    ) -> None:
        self._engine = engine
        self._step = step
        self._subjects = subjects
        self._pools = pools

    @torch.no_grad()
    def loss(self) -> float:
        """Mean noise loss over the views of all subjects."""
        total, scheduler = [], self._step.scheduler
        for subject, pool in zip(self._subjects, self._pools, strict=True):
            latents = pool.latents[pool.whole]
            noise, _ = self._step.draw(latents, torch.Generator().manual_seed(0))
            # The middles of equal parts of the schedule, so that every noise level is asked.
            shares = (torch.arange(len(latents)) + 0.5) / len(latents)
            timesteps = (shares * scheduler.config.num_train_timesteps).long().to(latents.device)
            noisy_latents, target = add_noise(scheduler, latents, noise, timesteps)
            text, masks, route = self._step.instance_prompts(subject, pool, pool.whole)
            model_pred = self._engine.predict(noisy_latents, timesteps, text, masks, route)
            total.append(noise_loss(model_pred, target, pool.weights[pool.whole]).mean())
        return float(torch.stack(total).mean())
