"""How long a task trains and at what rate: a flat part that ends at a plateau, then a descent."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from catalog_pipeline.settings import EarlyStopSettings

FLAT_SHARE = 0.6
_WARM_UP_STEPS = 10
_LAST_FACTOR = 0.05
_STEPS_BEFORE_TIMING = 5
_STEPS_TIMED = 20
_QUICKEST_STEP_SECONDS = 1e-4
"""Below what a clock tells apart: a pace of 0 would ask for endless steps."""


def fewest_steps(min_steps: int) -> int:
    """The shortest task whose descent starts no earlier than ``min_steps``."""
    return math.ceil(min_steps / FLAT_SHARE)


class StepTimer:
    """The pace of training, measured once: first steps are slow, so they are not timed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds that never go back."""
        self._clock = clock
        self._taken = 0
        self._since = 0.0

    def step_done(self) -> float | None:
        """Seconds a step, once enough steps of this process are done; ``None`` at all others."""
        self._taken += 1
        if self._taken == _STEPS_BEFORE_TIMING:
            self._since = self._clock()
        if self._taken != _STEPS_BEFORE_TIMING + _STEPS_TIMED:
            return None
        return max(_QUICKEST_STEP_SECONDS, (self._clock() - self._since) / _STEPS_TIMED)


class PlateauSchedule:
    """Warm-up, flat rate, cosine descent; the three keep their proportions at every length.

    Without early stopping the descent starts at 60 % of ``steps``. With it, it
    starts as soon as the held-out loss has stopped falling, and the task ends
    after a descent of two thirds of the steps up to there.

    Where ``steps`` is ``None`` the rate stays flat until :meth:`decide` sets the length. A
    plateau then ends the task at a whole number of steps N from which the start of the descent
    follows as it does from ``steps: N``, so that the same bytes can be had again.

    All state is the tensor ``state``, so that a checkpoint can hold it.
    """

    def __init__(self, steps: int | None, settings: EarlyStopSettings) -> None:
        self._settings = settings
        self._timed = steps is None
        start = math.inf if steps is None else FLAT_SHARE * steps
        # (step where the descent starts, best held-out loss, checks since then)
        self.state: Tensor = torch.tensor([start, math.inf, 0.0], dtype=torch.float64)

    @property
    def decided(self) -> bool:
        """Whether the length is known; only an earlier plateau may change it then."""
        return math.isfinite(float(self.state[0]))

    def decide(self, steps: int, done: int) -> None:
        """Set the length to ``steps``, or what ``min_steps`` or ``done`` flat steps ask for."""
        least = fewest_steps(max(self._settings.min_steps, done))
        self.state[0] = FLAT_SHARE * max(steps, least)

    @property
    def last_step(self) -> int:
        """How many steps the task has, as far as is known now; ``sys.maxsize`` where it is not."""
        if not self.decided:
            return sys.maxsize
        return max(1, round(float(self.state[0]) / FLAT_SHARE))

    def checks_at(self, step: int) -> bool:
        """Whether the held-out loss is wanted after ``step`` finished steps."""
        every = self._settings.check_every
        return self._settings.enabled and step % every == 0 and step < float(self.state[0])

    def observe(self, step: int, heldout_loss: float) -> None:
        """Note the held-out loss after ``step`` steps; may start the descent.

        A fall counts when it exceeds ``min_gain`` of the best loss so far.
        """
        start, best, stale = self.state.tolist()
        if heldout_loss < best * (1 - self._settings.min_gain):
            best, stale = heldout_loss, 0.0
        else:
            stale += 1
        if stale >= self._settings.patience and step >= self._settings.min_steps:
            start = FLAT_SHARE * fewest_steps(step) if self._timed else float(step)
        self.state.copy_(torch.tensor([start, best, stale], dtype=torch.float64))

    def factor(self, step: int) -> float:
        """Share of the full learning rate in step ``step`` (0 is the first)."""
        warm = min(1.0, (step + 1) / _WARM_UP_STEPS)
        start = float(self.state[0])
        if step < start:
            return warm
        progress = min(1.0, (step - start) / (start / FLAT_SHARE - start))
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return warm * (_LAST_FACTOR + (1 - _LAST_FACTOR) * cosine)
