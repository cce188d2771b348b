"""A picture's products against the photos that they come from: crop by crop, background off."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from catalog_pipeline.generation.anchored import output_size, place_anchors
from catalog_pipeline.generation.compositing import Layer, place, to_floats, to_pixels, visible
from catalog_pipeline.records import Cutout, Pixels, Region, RenderJob
from catalog_pipeline.settings import QualitySettings

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder
    from catalog_pipeline.evaluation.text_reading import TextReader

_WHOLE = 0.98
"""Opacity from which a pixel is the product's alone."""

Inside = npt.NDArray[np.bool_]


class CropScorer:
    """Measures pictures that start from photos; encoder and text reader are opened once."""

    def __init__(self, open_encoder: Callable[[], FeatureEncoder]) -> None:
        self._open_encoder = open_encoder
        self._readings: dict[tuple[str, bytes], str] = {}

    def score(
        self, job: RenderJob, picture: Pixels, cutouts: Mapping[str, Cutout]
    ) -> dict[str, float]:
        """Of each product: what of it is to be seen, likeness, colour, halo, text.

        ``visible/<sku>`` is the share of it that nothing hides; ``crop_likeness/<sku>`` the
        cosine to its photo, alone on white; ``delta_e/<sku>`` the median CIEDE2000;
        ``halo/<sku>`` how much of its old room shows at its edge, in an exact picture (a
        redraw has no pixel of it); ``text_error/<sku>`` the
        character error above the photo's own reading, where that has text and a reader is
        installed.
        """
        from catalog_pipeline.evaluation.product_crops import (
            color_difference,
            crop_likeness,
            halo,
        )

        layers = place_anchors(job, cutouts, *output_size(job))
        scores: dict[str, float] = {}
        for anchor, layer, shown in zip(job.anchors, layers, visible(layers), strict=True):
            sku, inside = anchor.sku, shown >= _WHOLE
            whole = float(layer.opacity.sum())
            scores[f"visible/{sku}"] = float(shown.sum()) / max(whole, 1.0)
            if not inside.any():
                continue
            photo = to_pixels(layer.color)
            scores[f"delta_e/{sku}"] = color_difference(picture, photo, inside)
            scores[f"crop_likeness/{sku}"] = crop_likeness(
                self._open_encoder(), picture, inside, photo, inside
            )
            room = cutouts[anchor.sha256].room
            if room is not None and job.mode == "exact":
                scores[f"halo/{sku}"] = halo(
                    picture,
                    shown >= 0.5,
                    _filled(picture, shown < 0.02),
                    _behind(room, anchor.box, layer),
                )
            error = self._text_error(picture, layer, shown, anchor.sha256)
            if error is not None:
                scores[f"text_error/{sku}"] = error
        return scores

    def _text_error(
        self, picture: Pixels, layer: Layer, shown: npt.NDArray[np.float32], sha256: str
    ) -> float | None:
        """``None`` where nothing can be read: no reader, or no text of this photo at its size."""
        if self._reader is None:
            return None
        from catalog_pipeline.evaluation.text_reading import read_reference, text_error

        height, width = shown.shape
        left, top, right, bottom = layer.box
        crop = np.s_[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        opacity = shown[crop][..., None]
        plain, alone = (
            to_pixels(colors[crop] * opacity + (1 - opacity))
            for colors in (layer.color, to_floats(picture))
        )
        # What another product hides is no fault of the picture: both are read without it.
        key = (sha256, hashlib.sha256(opacity.tobytes()).digest())
        if key not in self._readings:
            self._readings[key] = read_reference(self._reader, plain)
        if not self._readings[key]:
            return None
        return text_error(self._reader, alone, self._readings[key])

    @cached_property
    def _reader(self) -> TextReader | None:
        from catalog_pipeline.evaluation.text_reading import open_text_reader

        return open_text_reader()


@dataclass(frozen=True)
class CropFault:
    """A measure of a product that is out of bounds: its score ``name``, as text with ``bound``."""

    sku: str
    name: str
    value: str
    bound: str

    def __str__(self) -> str:
        """In words."""
        return f"{self.sku}: {_IN_WORDS[self.name].format(self.value, self.bound)}"


_IN_WORDS = {
    "visible": "{} to be seen, {} expected",
    "crop_likeness": "likeness {} to its photo, {}",
    "delta_e": "colours {} from its photo's, {}",
    "halo": "a rim of its old background, {}, {}",
    "text_error": "{} of its text wrong, {}",
}


def crop_faults(
    skus: Sequence[str], scores: Mapping[str, float], quality: QualitySettings
) -> list[CropFault]:
    """What is out of bounds of the products of a picture that starts from photos."""
    bounds = (
        ("visible", 1.0, quality.min_visible, "{:.0%}"),
        ("crop_likeness", 1.0, quality.min_crop_likeness, "{:.2f}"),
        ("delta_e", -1.0, quality.max_delta_e, "{:.1f}"),
        ("halo", -1.0, quality.max_halo, "{:.1f}"),
        ("text_error", -1.0, quality.max_text_error, "{:.0%}"),
    )
    return [
        CropFault(sku, name, form.format(scores[f"{name}/{sku}"]), form.format(bound))
        for sku in skus
        for name, sign, bound, form in bounds
        if sign * scores.get(f"{name}/{sku}", bound) < sign * bound
    ]


def _behind(room: Pixels, box: Region, layer: Layer) -> Pixels:
    """The room of a photo, at the place of its product."""
    height, width = layer.opacity.shape
    opaque = np.dstack([room, np.full(room.shape[:2], 255, np.uint8)])
    return to_pixels(place(Cutout(opaque), box, width, height).color)


def _filled(picture: Pixels, outside: Inside) -> Pixels:
    """``picture`` with every pixel that is not ``outside`` replaced by the nearest that is."""
    from scipy.ndimage import distance_transform_edt

    if not outside.any():
        return picture
    _, nearest = distance_transform_edt(~outside, return_indices=True)
    filled: Pixels = picture[tuple(nearest)]
    return filled
