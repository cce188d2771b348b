"""Which product a picture looks like: the one that its prompt named, or another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from catalog_pipeline.records import Features


@dataclass(frozen=True)
class ConfusedPair:
    """Pictures of ``named`` that look like ``recognised``; ``share`` of them, 0..1."""

    named: str
    recognised: str
    share: float


def recognise(pictures: Features, photos: Mapping[str, Features]) -> list[str]:
    """The concept that each picture looks like: ``argmax_j mean_p <picture, photo_jp>``.

    Args:
        pictures: ``(pictures, width)``.
        photos: concept -> features of its photos, ``(photos, width)``.
    """
    concepts = list(photos)
    means = np.stack([rows.mean(axis=0, dtype=np.float64) for rows in photos.values()])
    return [concepts[index] for index in (pictures @ means.T).argmax(axis=1)]


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """``values[i, j]``: share of the pictures of concept ``i`` that look most like ``j``.

    ``(concepts, concepts)``, named x recognised. A row adds up to 1, or is NaN
    throughout where the concept has photos but no picture was made of it.
    """

    concepts: tuple[str, ...]
    values: npt.NDArray[np.float64]

    @classmethod
    def measure(
        cls, generated: Mapping[str, Features], photos: Mapping[str, Features]
    ) -> ConfusionMatrix:
        """:func:`recognise` every picture, and count.

        Args:
            generated: concept -> features of its pictures, ``(pictures, width)``.
            photos: concept -> features of its photos, ``(photos, width)``; gives the
                order of the concepts.

        Raises:
            ValueError: nothing to compare, a concept without photos, or no rows.
        """
        missing = sorted(set(generated) - set(photos))
        if missing or not generated:
            raise ValueError(
                f"got pictures of {sorted(generated)} and photos of {sorted(photos)}; expected at "
                "least one concept with pictures, and photos of every such concept"
            )
        for name, rows in [*generated.items(), *photos.items()]:
            if rows.ndim != 2 or len(rows) == 0:
                raise ValueError(
                    f"{name} has features of shape {rows.shape}; expected (one or more images, "
                    "width)"
                )
        concepts = tuple(photos)
        place = {concept: index for index, concept in enumerate(concepts)}
        values = np.full((len(concepts), len(concepts)), np.nan)
        # All at once: the photos' means are made once, not once a concept.
        found = iter(recognise(np.concatenate(list(generated.values())), photos))
        for name, rows in generated.items():
            counts = Counter(place[next(found)] for _ in rows)
            values[place[name]] = [counts[column] / len(rows) for column in place.values()]
        return cls(concepts, values)

    @property
    def accuracy(self) -> float:
        """Mean of the diagonal: pictures that look like their own product, every product alike."""
        return float(np.nanmean(np.diag(self.values)))

    def same_class(self, classes: Mapping[str, str]) -> float:
        """Share of pictures taken for *another* concept of the same class noun.

        The mean over concepts that have one (two mugs, three cartons); NaN when no
        class has two.

        Args:
            classes: concept -> class noun, for every concept.
        """
        shares = []
        for index, concept in enumerate(self.concepts):
            twins = [
                other
                for other, name in enumerate(self.concepts)
                if other != index and classes[name] == classes[concept]
            ]
            row = self.values[index]
            if twins and not np.isnan(row).any():
                shares.append(float(row[twins].sum()))
        return float(np.mean(shares)) if shares else float("nan")

    def most_confused(self, count: int = 5) -> list[ConfusedPair]:
        """The largest entries off the diagonal, largest first; none that is 0."""
        wrong = np.nan_to_num(self.values * (1 - np.eye(len(self.concepts))))
        pairs = [
            ConfusedPair(self.concepts[i], self.concepts[j], float(wrong[i, j]))
            for i, j in np.argwhere(wrong > 0)
        ]
        return sorted(pairs, key=lambda pair: -pair.share)[:count]

    def to_json(self) -> str:
        """One JSON object; rows without pictures are ``null``."""
        rows = [None if np.isnan(row).any() else row.tolist() for row in self.values]
        content = {"concepts": list(self.concepts), "confusion": rows}
        return json.dumps(content, ensure_ascii=False, indent=1)
