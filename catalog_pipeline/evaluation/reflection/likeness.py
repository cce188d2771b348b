"""How much a region looks like each product of a collection, on one scale for all products."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from catalog_pipeline.evaluation.retention import photo_ceiling
from catalog_pipeline.records import Features

MIN_CEILING = 0.4
"""Photos that hardly resemble each other would make anything that resembles one of them very
like; real products with such photos took others' places before."""

Likeness = npt.NDArray[np.float64]


class LikenessScale:
    """Cosines to the photos of every product, and the same as a share of what photos reach.

    With ``c_j(x) = mean_p <x, photo_jp>`` and ``ceiling_j`` the mean cosine between
    different photos of product j::

        likeness_j(x) = c_j(x) / max(ceiling_j, MIN_CEILING)

    0 = like anything (features are centred), 1 = like one more photo.
    """

    def __init__(
        self, banks: Mapping[str, Features], classes: Mapping[str, str], width: int
    ) -> None:
        for sku, rows in banks.items():
            if rows.ndim != 2 or not len(rows) or rows.shape[1] != width:
                raise ValueError(
                    f"the memory of {sku!r} has features of shape {rows.shape}; expected (one or "
                    f"more photos, {width}) as the encoder gives; learn the SKU again "
                    "with the encoder in use"
                )
        self.skus = tuple(sorted(banks))
        self.place = {sku: index for index, sku in enumerate(self.skus)}
        self.classes = tuple(classes.get(sku, sku) for sku in self.skus)
        means = [banks[sku].mean(axis=0, dtype=np.float64) for sku in self.skus]
        self._means = np.stack(means) if means else np.zeros((0, width))
        ceilings = [max(photo_ceiling(banks[sku]), MIN_CEILING) for sku in self.skus]
        self._ceilings = np.array(ceilings, dtype=np.float64)

    def cosines(self, views: Features) -> Likeness:
        """Mean ``c_j`` of the views, for every product: ``(views, width)`` -> ``(SKUs,)``."""
        mean: Likeness = self._means @ views.mean(axis=0, dtype=np.float64)
        return mean

    def likeness(self, cosines: Likeness) -> Likeness:
        """``(..., SKUs)`` cosines -> shares of the ceilings."""
        shares: Likeness = cosines / self._ceilings
        return shares

    def leads(self, likeness: Likeness, own: int, named: Collection[str]) -> tuple[float, float]:
        """Likeness of ``own`` less that of its best near and its best far rival.

        Near rivals are the other ``named`` products and those of its own class; far ones
        are all others. Where there is no rival, the lead is the likeness itself.
        """
        near = np.array([
            sku in named or noun == self.classes[own]
            for sku, noun in zip(self.skus, self.classes, strict=True)
        ])  # fmt: skip
        others = np.arange(len(self.skus)) != own
        best = [likeness[others & group].max(initial=-np.inf) for group in (near, ~near)]
        leads = [likeness[own] - (rival if np.isfinite(rival) else 0.0) for rival in best]
        return float(leads[0]), float(leads[1])
