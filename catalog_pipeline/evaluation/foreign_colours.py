"""Colours that a mask took along from its surroundings: grass before a jar, a reflection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter
from skimage.color import rgb2lab

from catalog_pipeline.evaluation.matting import Inside, box_of
from catalog_pipeline.evaluation.palettes import OPAQUE
from catalog_pipeline.records import Pixels

MIN_CHROMA = 15.0
"""CIE chroma from which a pixel has a colour of its own; greys are shared by floors and soles."""
_RATIO = 10.0
_COMMON = 0.01
"""Of the surroundings' colours, what counts as one of theirs."""
_SIDE_PX, _SKIP_PX, _RING_PX = 160, 2, 8
_BINS, _BIN_WIDTH = 16, 8.0


@dataclass(frozen=True)
class Surrounded:
    """Colours of a product and of the ring around it, by CIE a*, b*."""

    bins: npt.NDArray[np.intp]
    """Of each coloured pixel of the product, its place in the histograms."""
    pixels: int
    """Of the product, coloured or not."""
    product: npt.NDArray[np.float64]
    ring: npt.NDArray[np.float64]


NO_COLOURS = Surrounded(
    np.zeros(0, np.intp), 0, np.zeros(_BINS**2), np.zeros(_BINS**2)
)  # fmt: skip
"""Of a photo without a product."""


def surrounded(pixels: Pixels, mask: npt.NDArray[np.uint8]) -> Surrounded:
    """Measure one photo ``(height, width, 3)``, its product masked by 0..255."""
    box = box_of(mask >= OPAQUE, 0.15)
    image, opacity = Image.fromarray(pixels[box]), Image.fromarray(mask[box])
    scale = _SIDE_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    lab = rgb2lab(np.asarray(image.resize(size, Image.Resampling.BOX)))
    inside: Inside = np.asarray(opacity.resize(size, Image.Resampling.BOX)) >= OPAQUE
    # The outermost pixels hold both colours; matting sees to them.
    core = binary_erosion(inside, iterations=_SKIP_PX)
    ring = binary_dilation(inside, iterations=_RING_PX)
    ring &= ~binary_dilation(inside, iterations=_SKIP_PX)
    place = np.clip((lab[..., 1:] + _BINS * _BIN_WIDTH / 2) / _BIN_WIDTH, 0, _BINS - 1)
    bins = (place[..., 0].astype(np.intp) * _BINS) + place[..., 1].astype(np.intp)
    coloured = core & (np.hypot(lab[..., 1], lab[..., 2]) > MIN_CHROMA)
    return Surrounded(
        bins[coloured], int(core.sum()), _histogram(bins[core]), _histogram(bins[ring])
    )


def foreign_share(one: Surrounded, others: Sequence[Surrounded]) -> float:
    """Share of the product's pixels in a colour of this photo's surroundings alone, in [0, 1].

    Foreign is a colour that is common right beside the mask, ten times as common as in
    the product in any of the ``others``. Light that differs from photo to photo moves the
    product's colours too, but not to those of the floor.
    """
    if not one.pixels or not others:
        return 0.0
    known = np.max([other.product for other in others], axis=0)
    foreign = (one.ring > _COMMON) & (one.ring > _RATIO * known)
    return float(foreign[one.bins].sum() / one.pixels)


def _histogram(bins: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    counts = np.bincount(bins, minlength=_BINS**2).reshape(_BINS, _BINS)
    smooth: npt.NDArray[np.float64] = gaussian_filter(counts / max(1, len(bins)), 0.6)
    return smooth.ravel()
