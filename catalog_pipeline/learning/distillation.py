"""Elastic-concept distillation: the concepts that drift most are held hardest.

Eq. (6), arXiv:2309.04430, sums the distillation loss over all earlier concepts
with one factor gamma. **Our reconstruction** of "elastic": during the task each
concept ``l`` keeps a moving mean ``d_l`` of its own distillation loss, and counts with::

    w_l = clip((d_l / mean_m d_m) ^ elasticity, 1/4, 4)

An elasticity of 0 is the plain sum. The teacher is the student's slot as it was
before the task, on the same frozen base: a swap of adapters, no second model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MEMORY = 0.9
"""How much of the moving mean stays at each observation."""
_BOUND = 4.0


class ElasticWeights:
    """Weight of each remembered concept in the distillation loss.

    ``state`` ``(concepts,)`` holds the moving means, NaN before the first
    observation; it is changed in place, so that a checkpoint can hold it.
    """

    def __init__(self, concepts: Sequence[str | None], elasticity: float) -> None:
        self._index = {name: i for i, name in enumerate(dict.fromkeys(concepts))}
        self._elasticity = elasticity
        self.state: Tensor = torch.full((max(1, len(self._index)),), torch.nan)

    def weigh(self, concepts: Sequence[str | None], losses: Tensor) -> Tensor:
        """``losses`` ``(batch,)`` times the weights of their concepts; then learns from them.

        A concept that has not been seen yet counts 1.
        """
        rows = torch.tensor([self._index[name] for name in concepts])
        weights = self.weights()[rows].to(losses.device)
        for row, loss in zip(rows.tolist(), losses.detach().float().cpu().tolist(), strict=True):
            before = float(self.state[row])
            first = before != before  # NaN: nothing seen yet
            self.state[row] = loss if first else _MEMORY * before + (1 - _MEMORY) * loss
        return weights * losses

    def weights(self) -> Tensor:
        """The current weight of every concept, ``(concepts,)`` in [1/4, 4]."""
        seen = ~self.state.isnan()
        weights = torch.ones_like(self.state)
        if not bool(seen.any()) or not self._elasticity:
            return weights
        mean = self.state[seen].mean().clamp(min=1e-12)
        relative = (self.state[seen] / mean) ** self._elasticity
        weights[seen] = relative.clamp(1 / _BOUND, _BOUND)
        return weights
