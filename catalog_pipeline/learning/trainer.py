"""One task of lifelong learning: one new concept on the frozen base."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from catalog_pipeline.diffusion.adapter import Route, whole_image
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.augmentation import Backdrop, make_views
from catalog_pipeline.learning.checkpoint import (
    Checkpoint,
    LossCurve,
    encode_state,
    restore_state,
)
from catalog_pipeline.learning.memory import LatentBank
from catalog_pipeline.learning.objective import (
    distillation_loss,
    noise_loss,
    prediction_target,
    total_loss,
)
from catalog_pipeline.learning.pool import TrainingPool, encode_views
from catalog_pipeline.records import Photo
from catalog_pipeline.settings import LearningSettings

TEACHER_SLOT = "shared@teacher"
_CURVE_EVERY = 10


@dataclass(frozen=True)
class LearningTask:
    """What a task learns, and what it must not forget.

    Attributes:
        slot: the adapter slot that is trained; ``placeholder_tokens`` start at ``class_noun``.
        fresh_slot: start the slot from scratch; else go on with the installed one.
        prior, exemplars: banks of Eqs. (3) and (4); ``None`` where the slot is the
            concept's own, since no other prompt is routed through it and the
            gradient of these terms is zero.
        fingerprint: hash of all inputs; a checkpoint of another one is not resumed.
        seed: of views, initial values, timesteps and noise.
    """

    class_noun: str
    photos: tuple[Photo, ...]
    backdrops: tuple[Backdrop, ...]
    slot: str
    placeholder_tokens: tuple[str, ...]
    fingerprint: str
    seed: int
    fresh_slot: bool = True
    prior: LatentBank | None = None
    exemplars: LatentBank | None = None

    @property
    def identifier(self) -> str:
        """The words that name the concept in a training prompt."""
        return " ".join((*self.placeholder_tokens, self.class_noun))


class ConceptTrainer:
    """Runs tasks on one engine; keeps nothing between them but what the engine holds."""

    def __init__(self, engine: DiffusionEngine, settings: LearningSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._scheduler = DDIMScheduler.from_config(engine.base.scheduler_config)

    def train(
        self, task: LearningTask, checkpoint: Checkpoint, on_step: Callable[[int, float], None]
    ) -> LossCurve:
        """Train ``task`` to its last step and leave slot and tokens installed, frozen.

        Resumes from ``checkpoint`` when it holds a state of the same fingerprint.
        ``on_step(finished steps, loss)`` is called after every step.

        Raises:
            LearningError: the loss is no longer a number.
        """
        settings = self._settings
        generator = torch.Generator().manual_seed(task.seed)
        self._install(task, generator)
        adapter_parameters = self._engine.adapter.parameters_of(task.slot)
        table = self._engine.text.table
        token_parameters = [table.parameter_of(token) for token in task.placeholder_tokens]
        parameters = [*adapter_parameters, *token_parameters]
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(
            [
                {"params": adapter_parameters, "weight_decay": settings.weight_decay},
                {"params": token_parameters, "weight_decay": 0.0},
            ]
        )
        pool = self._make_pool(task)
        step, curve = self._resume(task, checkpoint, parameters, optimizer, generator)
        recent: list[float] = []
        while step < settings.steps:
            self._set_learning_rates(optimizer, step)
            loss = total_loss(self._terms(task, pool, step, generator), settings.losses)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(adapter_parameters, settings.max_grad_norm)
            optimizer.step()
            step += 1
            recent.append(loss.item())
            _check_finite(recent[-1], step)
            if step % _CURVE_EVERY == 0 or step == settings.steps:
                curve.append((step, float(np.mean(recent))))
                recent.clear()
            if step % settings.checkpoint_every == 0 and step < settings.steps:
                # A curve point needs all its losses, so checkpoints fall on curve points.
                checkpoint.write(
                    encode_state(task.fingerprint, step, parameters, optimizer, generator, curve)
                )
            on_step(step, loss.item())
        for parameter in parameters:
            parameter.requires_grad_(False)
        self._engine.adapter.parameters_changed()
        return curve

    def _install(self, task: LearningTask, generator: torch.Generator) -> None:
        adapter = self._engine.adapter
        if task.fresh_slot:
            adapter.add_slot(task.slot, generator)
        if task.exemplars is not None:
            adapter.copy_slot(task.slot, TEACHER_SLOT)
        start = self._engine.text.initial_vector(task.class_noun)
        for index, token in enumerate(task.placeholder_tokens):
            # All tokens but the first start slightly apart, else they would stay twins.
            noise = torch.randn(start.shape, generator=generator).to(start.device)
            self._engine.text.table.add(token, start + (0.02 * noise if index else 0 * noise))

    def _make_pool(self, task: LearningTask) -> TrainingPool:
        views = make_views(
            task.photos,
            task.backdrops,
            side_px=self._engine.base.sample_size_px,
            views_per_photo=self._settings.latent_views,
            rng=np.random.default_rng(task.seed),
        )
        return encode_views(self._engine, views)

    def _resume(
        self,
        task: LearningTask,
        checkpoint: Checkpoint,
        parameters: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> tuple[int, LossCurve]:
        data = checkpoint.read()
        if data is None:
            return 0, []
        found = restore_state(data, task.fingerprint, parameters, optimizer, generator)
        return found or (0, [])

    def _set_learning_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        factor = learning_rate_factor(step, self._settings.steps)
        rates = (self._settings.adapter_lr, self._settings.token_lr)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor

    # --- the terms of Eq. (7) --------------------------------------------------

    def _terms(
        self, task: LearningTask, pool: TrainingPool, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        terms = {"concept": self._concept_loss(task, pool, step, generator)}
        weights, settings = self._settings.losses, self._settings
        if task.prior is not None and settings.prior_batch_size and weights.prior_weight:
            pred, target, _ = self._bank_pass(
                task.prior, settings.prior_batch_size, generator, task.slot
            )
            terms["prior"] = noise_loss(pred, target)
        if task.exemplars is not None and settings.replay_batch_size:
            pred, target, teacher = self._bank_pass(
                task.exemplars, settings.replay_batch_size, generator, task.slot, TEACHER_SLOT
            )
            if weights.replay_weight:
                terms["replay"] = noise_loss(pred, target)
            if weights.distillation_weight and teacher is not None:
                terms["distillation"] = distillation_loss(pred, teacher)
        return terms

    def _concept_loss(
        self, task: LearningTask, pool: TrainingPool, step: int, generator: torch.Generator
    ) -> Tensor:
        group = pool.group(step)
        batch = self._settings.batch_size
        chosen = group[torch.randint(len(group), (batch,), generator=generator)]
        noisy, target, times = self._noised(pool.latents[chosen], generator)
        prompts = [pool.prompts[i].format(concept=task.identifier) for i in chosen.tolist()]
        if pool.backdrop_prompts[int(chosen[0])] is None:
            hidden, masks = self._engine.text.encode(prompts)[:, None], None
            route = whole_image([task.slot] * batch)
        else:
            backdrops = [pool.backdrop_prompts[i] or "" for i in chosen.tolist()]
            hidden = self._engine.text.encode(prompts + backdrops)
            hidden = hidden.unflatten(0, (2, batch)).transpose(0, 1)  # (batch, regions, ...)
            region = pool.regions[chosen]
            masks = torch.cat([region, 1 - region], 1)
            route = Route(((task.slot, None),) * batch, masks)
        pred = self._engine.predict(noisy, times, hidden, masks, route)
        return noise_loss(pred, target, pool.weights[chosen])

    def _bank_pass(
        self,
        bank: LatentBank,
        batch: int,
        generator: torch.Generator,
        slot: str,
        teacher: str | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Student prediction, target and (if asked) teacher prediction on ``batch`` bank images."""
        chosen = torch.randint(len(bank), (batch,), generator=generator)
        noisy, target, times = self._noised(bank.latents[chosen], generator)
        with torch.no_grad():  # earlier tokens are frozen, and so is the text encoder
            hidden = self._engine.text.encode([bank.prompts[i] for i in chosen.tolist()])[:, None]
            taught = None
            if teacher is not None:
                route = whole_image([teacher] * batch)
                taught = self._engine.predict(noisy, times, hidden, None, route)
        pred = self._engine.predict(noisy, times, hidden, None, whole_image([slot] * batch))
        return pred, target, taught

    def _noised(self, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, prediction target and timesteps, drawn on the CPU generator."""
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        steps = self._scheduler.config.num_train_timesteps
        times = torch.randint(steps, (len(latents),), generator=generator).to(latents.device)
        noisy = self._scheduler.add_noise(latents, noise, times)
        return noisy, prediction_target(self._scheduler, latents, noise, times), times


def learning_rate_factor(step: int, steps: int) -> float:
    """Warm-up over 10 steps, flat to 60 % of the task, then a cosine down to 5 %."""
    warm = min(1.0, (step + 1) / 10)
    progress = step / steps
    if progress < 0.6:
        return warm
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (progress - 0.6) / 0.4)))


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise LearningError(
            f"the loss became {loss} at step {step}; expected a finite number; lower "
            "learning.yaml: adapter_lr or token_lr, or set base_model.yaml: dtype: float32"
        )
