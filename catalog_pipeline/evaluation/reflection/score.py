"""The reflection score: is every named product in its picture, once, as itself, in its colours.

A picture is cut into its planned regions; each region is compared with the photos of
*every* product of the collection, so that a same-class neighbour can win. Verdicts,
formulas, calibration and known limits: docs/reflection.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from catalog_pipeline.evaluation.palettes import PALETTE_BINS, palette_likeness, palette_of
from catalog_pipeline.evaluation.reflection.appearance import PictureLook, look_at
from catalog_pipeline.evaluation.reflection.likeness import Likeness, LikenessScale
from catalog_pipeline.records import Features, Palette, Pixels, Region

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder
    from catalog_pipeline.evaluation.product_mask import ProductMasker

Presence = Literal["found", "missing", "swapped", "duplicated"]
Named = Sequence[tuple[str, Region]]

# Chosen on the calibration half of the known scenes of tests/benchmarks/generation/detector.py
# and on 56 generated pictures that were judged by eye (docs/reflection.md).
MIN_LIKENESS = 0.15
"""Least likeness of a product that is there."""
MIN_TWICE_SHARE = 0.7
"""A product stands twice when another region shows it this well, against its own region."""
MIN_NEAR_LEAD = 0.0
"""Least lead over the other named products and those of the same class."""
MIN_FAR_LEAD = -0.15
"""Least lead over every other product of the collection: a thing of another class often scores
a little higher by chance, a thing that *is* another scores far higher."""
MIN_COLORS = 0.65
"""Least likeness of what stands there to the palette of a product that is there."""
MIN_SWAP_GAIN = 0.1
"""Least gain in palette likeness, a product, if two products exchanged their colours."""
MAX_EXTRA_PIECES = 0
"""Salient pieces more than products that a picture may have and still pass. One of 96
good known pictures has more (a white mug on white: its two red prints), 54 of 64 with a copy too
many."""


@dataclass(frozen=True)
class SkuFinding:
    """What became of one named product.

    Attributes:
        verdict: ``found`` in its own region; ``swapped``: only in another one's;
            ``duplicated``: in its own and in another; else ``missing``.
        similarity: mean cosine of its region to its photos, the best view of the region.
        margin: its likeness in its region less that of the likeliest other product.
        looks_like: the likeliest product of the collection in its region, or ``""``
            where nothing reaches the least likeness.
        colors: likeness of the colours that stand in its region to its palette, 0..1;
            ``None`` where nothing stands or the judge has no palette of it.
    """

    sku: str
    verdict: Presence
    similarity: float
    margin: float
    looks_like: str
    colors: float | None = None


@dataclass(frozen=True)
class Reflection:
    """The score of one picture.

    Attributes:
        findings: one a named product with a memory, in the order of the names.
        count_error: salient pieces less named products.
        color_swap: two products have each other's colours; only ever true where the
            judge has the palettes of both.
        sharpness: variance of the Laplacian of the luminance, 0..255 scale.
        blank: nothing is on the picture.
        unscored: named products without a memory: nothing can be said of them.
    """

    findings: tuple[SkuFinding, ...]
    count_error: int
    color_swap: bool
    sharpness: float
    blank: bool
    unscored: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of the scored products, how many were found; 0 when none is scored."""
        found = sum(finding.verdict == "found" for finding in self.findings)
        return found / len(self.findings) if self.findings else 0.0

    @property
    def passed(self) -> bool:
        """Every scored product found, something on the picture, colours not exchanged.

        False for a picture of which no product could be scored.
        """
        return (
            self.share == 1.0
            and not self.blank
            and not self.color_swap
            and self.count_error <= MAX_EXTRA_PIECES
        )

    def to_scores(self) -> dict[str, float]:
        """Flat and finite, for ``ArchiveRow.scores``; ``reflection`` only where scored."""
        scores = {
            "count_error": float(self.count_error),
            "color_swap": float(self.color_swap),
            "sharpness": self.sharpness,
            "blank": float(self.blank),
        }
        if self.findings:
            scores["reflection"] = self.share
        for finding in self.findings:
            scores[f"found/{finding.sku}"] = float(finding.verdict == "found")
            scores[f"similarity/{finding.sku}"] = finding.similarity
            if finding.colors is not None:
                scores[f"colors/{finding.sku}"] = finding.colors
        return scores


class ReflectionJudge:
    """Judges pictures of one collection; give it the memory of every SKU that may be confused."""

    def __init__(
        self,
        banks: Mapping[str, Features],
        classes: Mapping[str, str],
        encoder: FeatureEncoder,
        masker: ProductMasker,
        *,
        palettes: Mapping[str, Palette] | None = None,
    ) -> None:
        """``banks``: SKU -> features of its photos, ``(photos, width)``, made by ``encoder``.

        Args:
            classes: SKU -> class noun; a SKU that is absent is a class of its own.
            palettes: SKU -> :func:`palettes.palette_of` its photos; of products without
                one no colours are judged.

        Raises:
            ValueError: a bank is empty or of another width than the encoder's, or a palette
                counts other colours.
        """
        self._encoder = encoder
        self._masker = masker
        self._palettes = dict(palettes or {})
        for sku, palette in self._palettes.items():
            if palette.shape != (PALETTE_BINS,):
                raise ValueError(
                    f"the palette of {sku!r} has shape {palette.shape}, expected "
                    f"({PALETTE_BINS},); learn the SKU again"
                )
        self._scale = LikenessScale(banks, classes, encoder.width)

    def judge(self, pictures: Sequence[Pixels], named: Sequence[Named]) -> list[Reflection]:
        """One score a picture, in order.

        Args:
            pictures: ``(height, width, 3)`` each.
            named: for each picture, its SKUs and where each was planned to stand.

        Raises:
            ValueError: as many pictures as lists of names are expected, and a name at least.
        """
        if len(pictures) != len(named) or not all(named):
            raise ValueError(
                f"got {len(pictures)} pictures and {len(named)} lists of named products, "
                f"{sum(not names for names in named)} of them empty; expected one list a "
                "picture with at least one product"
            )
        looks = [
            look_at(picture, [region for _, region in names], self._masker)
            for picture, names in zip(pictures, named, strict=True)
        ]
        crops = [view for look in looks for views in look.views for view in views]
        features = self._encoder.encode(crops)
        results, start = [], 0
        for look, names in zip(looks, named, strict=True):
            rows = []
            for views in look.views:
                rows.append(features[start : start + len(views)])
                start += len(views)
            results.append(self._reflect(look, rows, names))
        return results

    def _reflect(self, look: PictureLook, rows: Sequence[Features], names: Named) -> Reflection:
        skus = [sku for sku, _ in names]
        scale = self._scale
        cosines = np.zeros((len(skus), len(scale.skus)))  # (regions, SKUs), 0 where none stands
        for region, views in enumerate(rows):
            if len(views):
                cosines[region] = scale.cosines(views)
        likeness = scale.likeness(cosines)
        palettes: list[Palette | None] = [
            None if products.empty else palette_of(look.picture, products.inside)
            for products in look.products
        ] or [None] * len(skus)
        findings = []
        for index, sku in enumerate(skus):
            if sku in scale.place:
                shown = [
                    0.0 if palette is None else self._shows(seen, palette, sku, skus)
                    for seen, palette in zip(likeness, palettes, strict=True)
                ]
                found = self._finding(skus, index, shown, cosines[index], likeness[index])
                findings.append(replace(found, colors=self._colors(palettes[index], sku)))
        return Reflection(
            findings=tuple(findings),
            count_error=sum(len(products.pieces) for products in look.products) - len(skus),
            color_swap=not look.blank and self._colors_exchanged(palettes, skus),
            sharpness=look.sharpness,
            blank=look.blank,
            unscored=tuple(sku for sku in skus if sku not in scale.place),
        )

    def _shows(self, likeness: Likeness, palette: Palette, sku: str, named: Sequence[str]) -> float:
        """Likeness of ``sku`` in a region that shows it, 0 in one that does not."""
        own = self._scale.place[sku]
        near, far = self._scale.leads(likeness, own, named)
        colors = self._colors(palette, sku)
        shows = (
            likeness[own] >= MIN_LIKENESS
            and near >= MIN_NEAR_LEAD
            and far >= MIN_FAR_LEAD
            and (colors is None or colors >= MIN_COLORS)
        )
        return float(likeness[own]) if shows else 0.0

    def _colors(self, palette: Palette | None, sku: str) -> float | None:
        if palette is None or sku not in self._palettes:
            return None
        return palette_likeness(palette, self._palettes[sku])

    def _finding(
        self,
        names: Sequence[str],
        region: int,
        shown: Sequence[float],
        cosines: Likeness,
        likeness: Likeness,
    ) -> SkuFinding:
        own = self._scale.place[names[region]]
        elsewhere = max((seen for at, seen in enumerate(shown) if at != region), default=0.0)
        verdict: Presence
        if shown[region]:
            twice = elsewhere >= MIN_TWICE_SHARE * shown[region]
            verdict = "duplicated" if twice else "found"
        else:
            verdict = "swapped" if elsewhere else "missing"
        best = int(np.argmax(likeness))
        return SkuFinding(
            sku=names[region],
            verdict=verdict,
            similarity=float(cosines[own]),
            margin=min(self._scale.leads(likeness, own, names)),
            looks_like=self._scale.skus[best] if likeness[best] >= MIN_LIKENESS else "",
        )

    def _colors_exchanged(self, palettes: Sequence[Palette | None], skus: Sequence[str]) -> bool:
        """Whether some two products would fit their palettes better with each other's colours."""
        known = [
            (sku, colors, self._palettes[sku])
            for sku, colors in zip(skus, palettes, strict=True)
            if colors is not None and sku in self._palettes
        ]
        for (first, one, own), (second, two, other) in combinations(known, 2):
            kept = palette_likeness(one, own) + palette_likeness(two, other)
            exchanged = palette_likeness(one, other) + palette_likeness(two, own)
            if first != second and exchanged - kept >= 2 * MIN_SWAP_GAIN:
                return True
        return False
