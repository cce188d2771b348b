"""One task of lifelong learning: one or several new concepts on the frozen base."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.checkpoint import (
    Checkpoint,
    LossCurve,
    encode_state,
    restore_state,
)
from catalog_pipeline.learning.memory import derive_seed
from catalog_pipeline.learning.optimizer import make_optimizer
from catalog_pipeline.learning.pool import TrainingPool, training_pool
from catalog_pipeline.learning.schedule import PlateauSchedule, StepTimer
from catalog_pipeline.learning.task import TEACHER_SLOT, LearningTask, Subject
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.settings import LearningSettings

_CURVE_EVERY = 10


class ConceptTrainer:
    """Runs tasks on one engine; keeps nothing between them but what the engine holds."""

    def __init__(
        self,
        engine: DiffusionEngine,
        settings: LearningSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock``: seconds that never go back; read with ``minutes_per_sku`` alone."""
        self._engine = engine
        self._settings = settings
        self._clock = clock

    def train(
        self,
        task: LearningTask,
        checkpoint: Checkpoint | None = None,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
        on_length: Callable[[int], None] = lambda steps: None,
    ) -> LossCurve:
        """Train ``task`` to its last step and leave slots and tokens installed, frozen.

        Resumes from ``checkpoint`` when it holds a state of the same fingerprint.
        ``on_step(finished steps, loss)`` is called after every step, ``on_length(steps)`` when
        ``minutes_per_sku`` has been turned into steps, or a checkpoint knows them.

        Raises:
            LearningError: the loss is no longer a number.
        """
        self._install(task, torch.Generator().manual_seed(task.seed))
        run = _TaskRun(self._engine, self._settings, task, StepTimer(self._clock))
        if checkpoint is not None:
            run.resume(checkpoint)
        told = self._settings.minutes_per_sku is None
        while not run.finished:
            if not told and run.steps is not None:
                told = True
                on_length(run.steps)
            loss = run.advance()
            on_step(run.step, loss)
            due = run.step % self._settings.checkpoint_every == 0 and not run.finished
            if checkpoint is not None and due:
                checkpoint.write(run.encode())
        run.freeze()
        return run.curve

    def _install(self, task: LearningTask, generator: torch.Generator) -> None:
        adapter = self._engine.adapter
        for subject in task.subjects:
            if subject.fresh_slot:
                adapter.add_slot(subject.slot, generator)
        if task.exemplars is not None:
            adapter.copy_slot(task.bank_slot, TEACHER_SLOT)
        for subject in task.subjects:
            concept = subject.concept
            self._engine.text.start(concept.placeholder_tokens, concept.class_noun, generator)


class _TaskRun:
    """The state of a task between two steps."""

    def __init__(
        self,
        engine: DiffusionEngine,
        settings: LearningSettings,
        task: LearningTask,
        timer: StepTimer,
    ) -> None:
        self._timer = timer
        self._engine = engine
        self._settings = settings
        self._task = task
        self._adapter_parameters = [
            parameter for slot in task.slots for parameter in engine.adapter.parameters_of(slot)
        ]
        self._token_parameters = [
            row
            for subject in task.subjects
            for row in engine.text.parameters_of(subject.concept.placeholder_tokens)
        ]
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        self._optimizer = make_optimizer(
            settings.optimizer,
            [
                {"params": self._adapter_parameters, "weight_decay": settings.weight_decay},
                {"params": self._token_parameters, "weight_decay": 0.0},
            ],
        )
        views = settings.latent_views
        pools = tuple(self._make_pool(subject, task.seed, views) for subject in task.subjects)
        self._training_step = TrainingStep(engine, settings, task, pools)
        self._heldout = self._make_heldout() if settings.early_stop.enabled else []
        timed = settings.minutes_per_sku is not None
        steps = None if timed else settings.steps * len(task.subjects)
        self._schedule = PlateauSchedule(steps, settings.early_stop)
        self._recent = torch.full((_CURVE_EVERY,), torch.nan, dtype=torch.float64)
        # Everything besides weights and optimiser that changes from step to step.
        self._extra = {
            "schedule": self._schedule.state,
            "elastic": self._training_step.elastic.state,
            "recent": self._recent,
        }
        self.step = 0
        self.curve: LossCurve = []

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [*self._adapter_parameters, *self._token_parameters]

    @property
    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.step >= self._schedule.last_step

    @property
    def steps(self) -> int | None:
        """How many steps the task has, as far as is known now."""
        return self._schedule.last_step if self._schedule.decided else None

    def advance(self) -> float:
        """One optimiser step; returns its loss."""
        factor = self._schedule.factor(self.step)
        rates = (self._settings.adapter_lr, self._settings.token_lr)
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        seed = derive_seed(self._task.seed, "step", self.step)
        loss, _ = self._training_step(self.step, torch.Generator().manual_seed(seed))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._adapter_parameters, self._settings.max_grad_norm)
        self._optimizer.step()
        self.step += 1
        value = loss.item()
        _check_finite(value, self.step)
        if self._schedule.checks_at(self.step):
            self._engine.adapter.parameters_changed()
            self._schedule.observe(self.step, self._heldout_loss())
        self._decide_length()
        self._recent[self.step % _CURVE_EVERY] = value
        if self.step % _CURVE_EVERY == 0 or self.finished:
            self.curve.append((self.step, float(self._recent.nanmean())))
            self._recent.fill_(torch.nan)
        return value

    def freeze(self) -> None:
        """Nothing of the task is trained any more."""
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        self._engine.adapter.parameters_changed()

    def encode(self) -> bytes:
        """The bytes from which :meth:`resume` goes on."""
        task, parameters = self._task.fingerprint, self._parameters
        return encode_state(task, self.step, parameters, self._optimizer, self.curve, self._extra)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from ``checkpoint`` if it holds a state of this very task."""
        data = checkpoint.read()
        if data is None:
            return
        task, parameters = self._task.fingerprint, self._parameters
        found = restore_state(data, task, parameters, self._optimizer, self._extra)
        if found is not None:
            self.step, self.curve = found

    def _decide_length(self) -> None:
        """Turn ``minutes_per_sku`` into steps, once, as soon as the pace is known."""
        minutes = self._settings.minutes_per_sku
        if minutes is None or self._schedule.decided:
            return
        pace = self._timer.step_done()
        if pace is not None:
            seconds = 60 * minutes * len(self._task.subjects)
            self._schedule.decide(round(seconds / pace), self.step)

    def _make_pool(self, subject: Subject, seed: int, views_per_photo: int) -> TrainingPool:
        return training_pool(
            self._engine,
            subject.photos,
            self._task.backdrops,
            seed,
            views_per_photo,
            oblong=self._settings.aspect_buckets,
        )

    def _make_heldout(self) -> list[TrainingPool]:
        """Views of another seed: same photos, other crops, places and scenes."""
        wanted, seed = self._settings.early_stop.heldout_views, self._task.seed + 1
        return [
            self._make_pool(subject, seed, max(3, math.ceil(wanted / len(subject.photos))))
            for subject in self._task.subjects
        ]

    def _heldout_loss(self) -> float:
        pairs = zip(self._task.subjects, self._heldout, strict=True)
        return statistics.fmean(self._training_step.heldout_loss(*pair) for pair in pairs)


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise LearningError(
            f"the loss became {loss} at step {step}; expected a finite number; lower "
            "learning.yaml: adapter_lr or token_lr, or set base_model.yaml: dtype: float32"
        )
