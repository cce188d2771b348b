"""What the forgetting gate measured of a candidate, and whether it is too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from catalog_pipeline.records import Pixels

BASE_ONLY = "base-only pictures"


@dataclass(frozen=True)
class Comparison:
    """One subject at the same prompts and seeds, before a task and under its candidate.

    ``subject`` is a SKU or :data:`BASE_ONLY`. The figures are mean feature cosines: of a
    SKU to its photos; of the base-only pictures to themselves before, so ``before`` is 1.
    """

    subject: str
    before: float
    after: float
    pictures_before: tuple[Pixels, ...]
    pictures_after: tuple[Pixels, ...]

    @property
    def fall(self) -> float:
        """``before - after``; exactly 0 when every picture is the same."""
        return 0.0 if self.identical else self.before - self.after

    @property
    def identical(self) -> bool:
        """Whether all pictures are equal bit by bit."""
        pairs = zip(self.pictures_before, self.pictures_after, strict=True)
        return all(np.array_equal(before, after) for before, after in pairs)


@dataclass(frozen=True)
class ForgettingReport:
    """What the gate measured of one candidate, and whether that is too much.

    ``exact``: no picture may differ at all, whatever the two tolerances say.
    """

    skus: tuple[Comparison, ...]
    prior: Comparison | None
    max_forgetting: float
    max_prior_drift: float
    exact: bool = False

    @property
    def fallen(self) -> tuple[Comparison, ...]:
        """SKUs that fell past the tolerance, the worst first."""
        found = [c for c in self.skus if self._is_too_much(c, self.max_forgetting)]
        return tuple(sorted(found, key=lambda c: -c.fall))

    @property
    def prior_fell(self) -> bool:
        """Whether the base-only pictures drifted past the tolerance."""
        return self.prior is not None and self._is_too_much(self.prior, self.max_prior_drift)

    @property
    def passed(self) -> bool:
        """Whether the candidate may be promoted."""
        return not self.fallen and not self.prior_fell

    @property
    def metrics(self) -> dict[str, float]:
        """``forgetting``, the largest fall (0 without earlier SKUs), and ``prior_drift``."""
        falls = {"forgetting": max((c.fall for c in self.skus), default=0.0)}
        return falls if self.prior is None else falls | {"prior_drift": self.prior.fall}

    def figures(self) -> dict[str, Any]:
        """Every figure, ready for JSON."""
        return {
            "skus": {c.subject: _figures(c) for c in self.skus},
            "fallen": [c.subject for c in self.fallen],
            "prior_drift": None if self.prior is None else round(self.prior.fall, 6),
            "prior_fell": self.prior_fell,
        }

    def complaint(self) -> str:
        """What was got and expected, in one sentence without a full stop."""
        parts = []
        if self.fallen:
            named = ", ".join(
                f"{c.subject} (-{c.fall:.3f}, {c.before:.3f} to {c.after:.3f})" for c in self.fallen
            )
            limit = "none" if self.exact else f"at most {self.max_forgetting:g}"
            parts.append(f"the candidate forgets {named}, expected a fall of {limit}")
        if self.prior is not None and self.prior_fell:
            limit = "0" if self.exact else f"at most {self.max_prior_drift:g}"
            parts.append(f"{BASE_ONLY} drift by {self.prior.fall:.3f}, expected {limit}")
        return " and ".join(parts)

    def _is_too_much(self, found: Comparison, tolerance: float) -> bool:
        return not found.identical if self.exact else found.fall > tolerance


def _figures(found: Comparison) -> dict[str, float]:
    values = {"before": found.before, "after": found.after, "fall": found.fall}
    return {name: round(value, 6) for name, value in values.items()}
