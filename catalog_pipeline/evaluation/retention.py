"""How much of what was learned is still there: fidelity, ceilings, forgetting, drift.

All similarities are cosines of L2-normalised features, in -1..1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from catalog_pipeline.records import Features

Matrix = npt.NDArray[np.float64]

MIN_CEILING = 0.1
"""Photos this unlike each other (front and back, say) are no yardstick; a share of their
ceiling would be noise of any size."""


def cosine_to_photos(generated: Features, photos: Features) -> float:
    """Fidelity: ``mean_i mean_j <generated_i, photos_j>``, every picture with every photo.

    Args:
        generated: ``(pictures, width)``, L2-normalised.
        photos: ``(photos, width)``, L2-normalised, of one product.

    Raises:
        ValueError: nothing on one side, or features of different widths.
    """
    _require_rows("generated", generated, 1)
    _require_rows("photos", photos, 1)
    if generated.shape[1] != photos.shape[1]:
        raise ValueError(
            f"got features of width {generated.shape[1]} and {photos.shape[1]}; expected both "
            "from one encoder"
        )
    # The mean of all pairs of dot products is the dot product of the means.
    return float(generated.mean(axis=0, dtype=np.float64) @ photos.mean(axis=0, dtype=np.float64))


def photo_ceiling(photos: Features) -> float:
    """What fidelity real photos reach: ``mean_{i != j} <photos_i, photos_j>``.

    A generated picture that is as good as one more photo scores this much; one
    photo alone has no other to compare with and gives 1.
    """
    _require_rows("photos", photos, 1)
    count = len(photos)
    if count == 1:
        return 1.0
    gram = photos.astype(np.float64) @ photos.T.astype(np.float64)
    return float((gram.sum() - np.trace(gram)) / (count * (count - 1)))


def fidelity_share(fidelity: float, ceiling: float) -> float:
    """``fidelity / max(ceiling, MIN_CEILING)``; 1 = as alike as one more photo."""
    return fidelity / max(ceiling, MIN_CEILING)


def prior_drift(before: Features, after: Features) -> float:
    """``1 - mean_i <before_i, after_i>``: how far the base's own pictures moved.

    Row ``i`` of both is one base-only prompt at one seed, rendered before the
    first task and now. 0 = the same pictures.
    """
    if before.shape != after.shape:
        raise ValueError(
            f"got features of shapes {before.shape} and {after.shape}; expected the same prompts "
            "and seeds on both sides"
        )
    _require_rows("before", before, 1)
    cosine = float((before.astype(np.float64) * after).sum(axis=1).mean())
    return max(0.0, 1.0 - cosine)  # Rounding can lift a cosine over 1.


@dataclass
class RetentionMatrix:
    """``R[k, j]``: fidelity of concept ``j`` after task ``k``, filled as tasks end.

    Concept ``j`` is learned in task ``j``; entries before that are NaN, as are
    entries that nobody measured.
    """

    concepts: tuple[str, ...]
    _values: Matrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.concepts or len(set(self.concepts)) != len(self.concepts):
            raise ValueError(f"got concepts {self.concepts}; expected at least one, each once")
        self._values = np.full((len(self.concepts), len(self.concepts)), np.nan)

    @property
    def values(self) -> Matrix:
        """A copy, ``(tasks, concepts)``, NaN where nothing was measured."""
        return self._values.copy()

    def record(self, after: str, fidelities: Mapping[str, float]) -> None:
        """Note what every concept measured right after concept ``after`` was learned.

        Raises:
            ValueError: an unknown concept, or one that is learned only later.
        """
        task = self._index(after)
        for concept, fidelity in fidelities.items():
            column = self._index(concept)
            if column > task:
                raise ValueError(f"{concept} is learned after {after}; it has no fidelity yet")
            self._values[task, column] = fidelity

    @property
    def after_own_task(self) -> float:
        """Mean of the diagonal: how well each concept was learned in its own task."""
        return float(np.nanmean(np.diag(self._values)))

    @property
    def final_mean(self) -> float:
        """``mean_j R[K, j]`` over the concepts measured after the last recorded task."""
        return float(np.nanmean(self._values[self._last()]))

    @property
    def forgetting(self) -> float:
        """``mean_j (max_{k < K} R[k, j] - R[K, j])`` over concepts measured before task K.

        The concept of the last task has no earlier figure and does not count;
        0 when there is nothing to compare. Negative: concepts became better.
        """
        falls = list(self.forgetting_per_concept().values())
        return float(np.mean(falls)) if falls else 0.0

    def forgetting_per_concept(self) -> dict[str, float]:
        """Best earlier fidelity minus the final one, for each concept that has both."""
        last = self._last()
        falls = {}
        for column, concept in enumerate(self.concepts):
            earlier = self._values[:last, column]
            final = self._values[last, column]
            if not np.isnan(final) and not np.isnan(earlier).all():
                falls[concept] = float(np.nanmax(earlier) - final)
        return falls

    def to_json(self) -> str:
        """One JSON object; unmeasured entries are ``null``."""
        rows = [[None if np.isnan(v) else float(v) for v in row] for row in self._values]
        content = {"concepts": list(self.concepts), "fidelity": rows}
        return json.dumps(content, ensure_ascii=False, indent=1)

    def _index(self, concept: str) -> int:
        if concept not in self.concepts:
            raise ValueError(f"unknown concept {concept!r}; expected {', '.join(self.concepts)}")
        return self.concepts.index(concept)

    def _last(self) -> int:
        measured = np.flatnonzero(~np.isnan(self._values).all(axis=1))
        if len(measured) == 0:
            raise ValueError("nothing was recorded yet; call record() after a task")
        return int(measured[-1])


def _require_rows(name: str, features: Features, least: int) -> None:
    if features.ndim != 2 or len(features) < least:
        raise ValueError(
            f"{name} has shape {features.shape}; expected ({least} or more images, features)"
        )
