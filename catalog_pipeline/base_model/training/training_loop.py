"""The loop that both networks' stages share: rate, clipping, EMA, checkpoints, resume.

Step ``n`` draws all its random numbers from a generator seeded by ``(seed,
stage, n)`` and nothing else, so a run that was killed and resumed ends with
the very weights of a run that was not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from catalog_pipeline.base_model.training.checkpoint import (
    load_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_tensors,
    under_prefix,
    with_prefix,
)
from catalog_pipeline.base_model.training.presets import OptimizerSettings
from catalog_pipeline.base_model.training.training_log import Deadline, TrainingLog
from catalog_pipeline.errors import BaseModelError

_RECORD_EVERY = 10

StepLoss = Callable[[int, torch.Generator], tuple[Tensor, dict[str, Tensor]]]
"""``(step, generator) -> (scalar loss, named scalar figures)``; the loss has a gradient."""


def seed_of(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on every part, equal on every machine."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def learning_rate(step: int, settings: OptimizerSettings) -> float:
    """The rate of ``step``: linear warm-up, plateau, then ``(1 + cos(pi x)) / 2``."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    done = step / settings.steps
    if done < settings.plateau:
        return settings.learning_rate * warm
    x = (done - settings.plateau) / (1 - settings.plateau)
    return settings.learning_rate * warm * (1 + math.cos(math.pi * x)) / 2


class Ema:
    """Exponential moving average of every parameter of ``module``.

    ``average = d * average + (1 - d) * value`` with ``d = min(decay, (1 + n) /
    (10 + n))`` after ``n`` steps, so that early averages forget the random start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._parameters = dict(module.named_parameters())
        self.average = {n: p.detach().clone() for n, p in self._parameters.items()}
        self._decay = decay

    @torch.no_grad()
    def update(self, steps_done: int) -> None:
        """Move every average towards its parameter."""
        decay = min(self._decay, (1 + steps_done) / (10 + steps_done))
        torch._foreach_lerp_(
            list(self.average.values()), list(self._parameters.values()), 1 - decay
        )

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and parameters; a second call puts them back."""
        for name, parameter in self._parameters.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(kept)


@dataclass
class Stage:
    """One network (or several as one module) on its way through its steps."""

    name: str
    module: nn.Module
    settings: OptimizerSettings
    checkpoint: Path
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(),
            lr=self.settings.learning_rate,
            betas=self.settings.betas,
            weight_decay=self.settings.weight_decay,
        )
        decay = self.settings.ema_decay
        self.ema = None if decay is None else Ema(self.module, decay)
        self.steps_done = 0
        if self.checkpoint.exists():
            self._restore()

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self.steps_done >= self.settings.steps

    def save(self) -> None:
        """Write the checkpoint: weights, averages, optimizer, steps done."""
        tensors = with_prefix("module", self.module.state_dict())
        tensors |= with_prefix("optimizer", optimizer_tensors(self.optimizer))
        if self.ema is not None:
            tensors |= with_prefix("ema", self.ema.average)
        save_tensors(self.checkpoint, tensors, {"stage": self.name, "steps": self.steps_done})

    def _restore(self) -> None:
        tensors, facts = load_tensors(self.checkpoint)
        if facts.get("stage") != self.name:
            raise BaseModelError(
                f"{self.checkpoint} belongs to stage '{facts.get('stage')}'; expected "
                f"'{self.name}'; give --out another folder"
            )
        self.module.load_state_dict(under_prefix("module", tensors))
        restore_optimizer(self.optimizer, under_prefix("optimizer", tensors))
        if self.ema is not None:
            for name, value in under_prefix("ema", tensors).items():
                self.ema.average[name].copy_(value)
        self.steps_done = int(facts["steps"])


def run_stage(
    stage: Stage,
    step_loss: StepLoss,
    *,
    log: TrainingLog,
    deadline: Deadline,
    after_step: Callable[[int], None] = lambda steps_done: None,
) -> bool:
    """Train until the last step or the deadline; a checkpoint is left in both cases.

    Returns:
        Whether the stage is finished. A finished stage is returned as it is.

    Raises:
        BaseModelError: the loss is not finite; the last checkpoint stays.
    """
    if stage.finished:
        return True
    with log.stage(stage.name, stage.settings.steps) as progress:
        while not stage.finished and not deadline.passed():
            loss, figures = _one_step(stage, step_loss)
            at_checkpoint = stage.steps_done % stage.settings.checkpoint_every == 0
            if stage.steps_done % _RECORD_EVERY == 0 or at_checkpoint or stage.finished:
                numbers = {name: float(value) for name, value in figures.items()}
                progress.reach(stage.steps_done, loss=_finite(stage, loss), **numbers)
            if at_checkpoint or stage.finished:
                stage.save()
            after_step(stage.steps_done)
        if not stage.finished:
            stage.save()
    return stage.finished


def _finite(stage: Stage, loss: Tensor) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise BaseModelError(
            f"stage {stage.name}: the loss is {value} at step {stage.steps_done}; expected a "
            "finite number; lower the learning rate of the preset and run again with --resume"
        )
    return value


def _one_step(stage: Stage, step_loss: StepLoss) -> tuple[Tensor, dict[str, Tensor]]:
    step, settings = stage.steps_done, stage.settings
    for group in stage.optimizer.param_groups:
        group["lr"] = learning_rate(step, settings)
    generator = torch.Generator(stage.device).manual_seed(seed_of(stage.seed, stage.name, step))
    loss, figures = step_loss(step, generator)
    stage.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(stage.module.parameters(), settings.max_grad_norm)
    stage.optimizer.step()
    stage.steps_done += 1
    if stage.ema is not None:
        stage.ema.update(stage.steps_done)
    return loss.detach(), figures
