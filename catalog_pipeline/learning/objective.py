"""The losses of L2DM, arXiv:2309.04430, each ``(batch,)``; one place weighs and reduces them.

Symbols: ``z`` latents ``(batch, channels, h, w)``, ``eps`` unit normal noise,
``t`` timesteps, ``c`` text. **Differs from the paper:** the target is the
scheduler's own prediction type (noise or velocity, arXiv:2202.00512), and each
pixel may carry a weight, so that the room of a framed photo counts little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from catalog_pipeline.settings import LossSettings


def prediction_target(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the UNet should predict, in the scheduler's own prediction type.

    ``epsilon``: ``eps``. ``v_prediction``: ``sqrt(a_t) eps - sqrt(1 - a_t) z``.

    Raises:
        ValueError: a prediction type other than these two.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        velocity = scheduler.get_velocity(latents, noise, timesteps)
        assert isinstance(velocity, Tensor)
        return velocity
    raise ValueError(f"prediction type {kind!r}; expected 'epsilon' or 'v_prediction'")


def add_noise(
    scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> tuple[Tensor, Tensor]:
    """Noisy latents ``z_t``, and what should be predicted on them; both like ``latents``."""
    noisy_latents = scheduler.add_noise(latents, noise, timesteps)
    return noisy_latents, prediction_target(scheduler, latents, noise, timesteps)


def noise_loss(model_pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """``||target - model_pred||^2`` averaged over channels and pixels: Eq. (3), arXiv:2309.04430.

    The same form serves the new photos (``L_SD``), the prior images (``L_PR``)
    and the replayed exemplars (first term of Eq. (4)).

    Args:
        model_pred: ``(batch, channels, h, w)``.
        target: the same shape.
        weight: ``(batch, 1, h, w)`` >= 0 and not all zero in any image; ``None`` = ones.

    Returns:
        ``(batch,)``.
    """
    error = (model_pred - target) ** 2
    if weight is None:
        return error.mean((1, 2, 3))
    channels = error.shape[1]
    return (error * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * channels)


def distillation_loss(student_pred: Tensor, teacher_pred: Tensor) -> Tensor:
    """``||eps_{theta^{k-1}} - eps_theta||^2`` on memory samples: Eq. (6), arXiv:2309.04430.

    The teacher is the model before this task; no gradient reaches it.

    Returns:
        ``(batch,)``.
    """
    return noise_loss(student_pred, teacher_pred.detach())


def total_loss(terms: Mapping[str, Tensor], weights: LossSettings) -> Tensor:
    """The weighed sum of Eq. (7), arXiv:2309.04430, reduced to a scalar.

    Args:
        terms: ``(batch,)`` losses by name: ``concept`` (required), ``prior``,
            ``replay``, ``distillation``; any other name counts as it is.
        weights: lambda = beta = ``prior_weight``, alpha = ``replay_weight``,
            gamma = ``distillation_weight``.
    """
    weight_of = {
        "concept": 1.0,
        "prior": weights.prior_weight,
        "replay": weights.replay_weight,
        "distillation": weights.distillation_weight,
    }
    weighed = [weight_of.get(name, 1.0) * loss.mean() for name, loss in terms.items()]
    return torch.stack(weighed).sum()
