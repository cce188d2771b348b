"""How long a task trains and at what rate: a flat part that ends at a plateau, then a descent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from catalog_pipeline.settings import EarlyStopSettings

FLAT_SHARE = 0.6
_WARM_UP_STEPS = 10
_LAST_FACTOR = 0.05


class PlateauSchedule:
    """Warm-up, flat rate, cosine descent; the three keep their proportions at every length.

    Without early stopping the descent starts at 60 % of ``steps``. With it, it
    starts as soon as the held-out loss has stopped falling, and the task ends
    after a descent of two thirds of the steps up to there.

    All state is the tensor ``state``, so that a checkpoint can hold it.
    """

    def __init__(self, steps: int, settings: EarlyStopSettings) -> None:
        self._settings = settings
        # (step where the descent starts, best held-out loss, checks since then)
        self.state: Tensor = torch.tensor([FLAT_SHARE * steps, math.inf, 0.0], dtype=torch.float64)

    @property
    def last_step(self) -> int:
        """How many steps the task has, as far as is known now."""
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
            start = float(step)
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
