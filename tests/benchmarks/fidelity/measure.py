"""What is measured of a picture: likeness, colour and text of its products; scene or collage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from skimage.color import rgb2lab

from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.product_crops import alone_on_white
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.evaluation.reflection.appearance import find_products
from catalog_pipeline.evaluation.reflection.score import ReflectionJudge
from catalog_pipeline.generation.anchored import Cutouts, place_anchors
from catalog_pipeline.generation.compositing import Layer, enlarge, to_floats, visible
from catalog_pipeline.records import Anchor, Features, Pixels, RenderJob
from catalog_pipeline.workflows.night.crop_scores import CropScorer

WHOLE = 0.98
"""Opacity from which a pixel is the product's alone."""


@dataclass
class Measures:
    """Everything that pictures are measured with; features are of masked crops on white."""

    encoder: FeatureEncoder
    masker: ProductMasker
    judge: ReflectionJudge
    scorer: CropScorer
    crops: Mapping[str, Mapping[str, Features]]

    def of_scene(
        self, job: RenderJob, painted: Mapping[str, Pixels], cutouts: Cutouts
    ) -> dict[str, Any]:
        """``{variant: figures}`` of one scene; ``empty`` is its scene without products."""
        return {
            name: self._of_picture(name, job, picture, painted["empty"], cutouts)
            for name, picture in painted.items()
            if name != "empty"
        }

    def _of_picture(
        self, name: str, job: RenderJob, picture: Pixels, empty: Pixels, cutouts: Cutouts
    ) -> dict[str, Any]:
        named = [list(zip(job.skus, job.regions, strict=True))]
        (reflection,) = self.judge.judge([picture], named)
        figures: dict[str, Any] = {
            "found": {f.sku: f.verdict for f in reflection.findings},
            "passed": reflection.passed,
            "likeness": self._likeness(job, picture),
        }
        if name == "learned":
            return figures
        height, width = picture.shape[:2]
        layers = place_anchors(job, cutouts, width, height)
        figures["placed_likeness"] = {
            anchor.sku: self._likeness_to_others(anchor, alone_on_white(picture, shown >= WHOLE))
            for anchor, shown in zip(job.anchors, visible(layers), strict=True)
            if (shown >= WHOLE).any()
        }
        asked = replace(job, mode="exact" if name in ("plain", "exact") else "anchored")
        scores = self.scorer.score(asked, picture, cutouts)
        for kind in ("visible", "delta_e", "text_error", "halo", "crop_likeness"):
            named_kind = {sku: scores.get(f"{kind}/{sku}") for sku in job.skus}
            figures[kind] = {sku: v for sku, v in named_kind.items() if v is not None}
        scene = enlarge(to_floats(empty), width, height)
        figures["one_scene"] = one_scene(to_floats(picture), scene, layers)
        return figures

    def _likeness(self, job: RenderJob, picture: Pixels) -> dict[str, float]:
        """Mean cosine of each product's masked crop to those of its photos, its own left out."""
        products = find_products(picture, job.regions, self.masker)
        likeness = {}
        for index, (sku, found) in enumerate(zip(job.skus, products, strict=True)):
            if found.empty:
                likeness[sku] = 0.0
                continue
            crop = alone_on_white(picture, found.inside)
            likeness[sku] = self._likeness_to_others(job.anchors[index], crop)
        return likeness

    def _likeness_to_others(self, anchor: Anchor, crop: Pixels) -> float:
        """Mean cosine to the photos' crops but the anchor's own; 0 where there is no other."""
        others = [row for sha, row in self.crops[anchor.sku].items() if sha != anchor.sha256]
        if not others:
            return 0.0
        return float((np.stack(others) @ self.encoder.encode([crop])[0]).mean())


def one_scene(picture: np.ndarray, scene: np.ndarray, layers: Sequence[Layer]) -> dict[str, float]:
    """What tells a scene from a collage, means over the products.

    ``shadow`` is how much darker the ground under a product is than without it, 0..1;
    ``cast_gap`` the distance of its mean a*, b* to the scene's (CIELAB); ``edge`` the mean
    step of L* across its outline.
    """
    rows: dict[str, list[float]] = {"shadow": [], "cast_gap": [], "edge": []}
    lab, lab_scene = rgb2lab(picture), rgb2lab(scene)
    height = picture.shape[0]
    for layer in layers:
        left, _, right, bottom = layer.box
        quarter = (right - left) // 4
        y = slice(min(bottom, height - 2), min(bottom + max(2, height // 32), height))
        x = slice(max(left + quarter, 0), max(right - quarter, left + quarter + 1))
        free = layer.opacity[y, x] < 0.02
        if free.any():
            before = lab_scene[y, x, 0][free].mean()
            rows["shadow"].append(float(1 - lab[y, x, 0][free].mean() / max(before, 1.0)))
        whole = layer.opacity >= 0.98
        if whole.any():
            gap = lab[whole][:, 1:].mean(0) - lab_scene[..., 1:].mean((0, 1))
            rows["cast_gap"].append(float(np.hypot(*gap)))
        steps = np.abs(np.diff(lab[..., 0], axis=1))
        outline = np.abs(np.diff(layer.opacity, axis=1)) > 0.1
        if outline.any():
            rows["edge"].append(float(steps[outline].mean()))
    return {name: float(np.mean(values)) for name, values in rows.items() if values}
