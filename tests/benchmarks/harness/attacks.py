"""How well a score tells members from others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """Chance that a member scores above one who is none, ties half: .5 tells nothing, 1 all."""
    ahead = np.subtract.outer(np.asarray(members), np.asarray(others))
    return float(((ahead > 0) + 0.5 * (ahead == 0)).mean())


def auc_interval(
    members: Sequence[float], others: Sequence[float], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """From where to where 95 % of :func:`auc` lie when both are drawn again with replacement."""
    rng = np.random.default_rng(seed)
    one, two = np.asarray(members), np.asarray(others)
    found = [
        auc(rng.choice(one, len(one)), rng.choice(two, len(two)))  # type: ignore[arg-type]
        for _ in range(draws)
    ]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def hits_at(members: Sequence[float], others: Sequence[float], false_alarms: float) -> float:
    """Share of members above the score that so many of the others reach."""
    bound = np.quantile(np.asarray(others), 1 - false_alarms)
    return float((np.asarray(members) > bound).mean())
