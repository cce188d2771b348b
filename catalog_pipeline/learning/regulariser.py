"""Further terms of a task's loss: how methods other than L2DM plug into the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from catalog_pipeline.diffusion.sampling import DiffusionEngine


@dataclass(frozen=True)
class StepContext:
    """What the concept term of a step was computed from.

    Attributes:
        noisy_latents: ``(batch, channels, h, w)``; ``timesteps``: ``(batch,)``.
        model_pred: the student's prediction on them, with its graph.
        generator: the task's source of random numbers, on the CPU.
    """

    engine: DiffusionEngine
    noisy_latents: Tensor
    timesteps: Tensor
    model_pred: Tensor
    generator: torch.Generator


class Regulariser(Protocol):
    """A term ``weight * loss`` of every step; keeps no state that changes within a task."""

    @property
    def weight(self) -> float:
        """Factor of the term."""

    def loss(self, context: StepContext) -> Tensor:
        """``(batch,)`` or ``(1,)``."""
