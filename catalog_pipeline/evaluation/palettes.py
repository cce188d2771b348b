"""Colour palettes: which colours a product has, as a small histogram, never as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance_nd
from skimage.color import rgb2lab

from catalog_pipeline.records import Palette, Photo, Pixels

LIGHTNESS_BINS = 4
CHROMA_BINS = 6
PALETTE_BINS = LIGHTNESS_BINS * CHROMA_BINS**2
OPAQUE = 128
"""Opacity, 0..255, from which a pixel of a photo is the product's."""
_CHROMA_LIMIT = 0.30
"""Of the opponent axes, where saturated colours of pictures end."""
_LEAST_SHARE = 0.001
"""Of a palette; what is rarer is left out of distances, which take time for every colour."""


def palette_of(pixels: Pixels, inside: npt.NDArray[np.bool_] | None = None) -> Palette:
    """Shares of the colours of ``pixels``, softly binned by lightness and two opponent axes.

    With ``r, g, b`` in 0..1: lightness ``(r + g + b) / 3``, red-green ``(r - g) / 2``,
    yellow-blue ``(r + g) / 4 - b / 2``. Each pixel is shared among the eight bins around
    it, so a small change of light moves a palette little.

    Args:
        pixels: a picture, ``(height, width, 3)``.
        inside: which pixels count, ``(height, width)``; all where absent or empty.
    """
    chosen = pixels.reshape(-1, 3) if inside is None or not inside.any() else pixels[inside]
    red, green, blue = (chosen.astype(np.float64) / 255).T
    axes = (
        ((red + green + blue) / 3, LIGHTNESS_BINS),
        (((red - green) / 2 / _CHROMA_LIMIT + 1) / 2, CHROMA_BINS),
        ((((red + green) / 4 - blue / 2) / _CHROMA_LIMIT + 1) / 2, CHROMA_BINS),
    )
    histogram = np.zeros((LIGHTNESS_BINS, CHROMA_BINS, CHROMA_BINS))
    placed = [np.clip(value, 0, 1) * (bins - 1) for value, bins in axes]
    lower = [
        np.minimum(at.astype(np.intp), bins - 2) for at, (_, bins) in zip(placed, axes, strict=True)
    ]
    above = [at - low for at, low in zip(placed, lower, strict=True)]
    for corner in np.ndindex(2, 2, 2):
        weight = np.ones(len(chosen))
        for axis, step in enumerate(corner):
            weight *= above[axis] if step else 1 - above[axis]
        place = tuple(low + step for low, step in zip(lower, corner, strict=True))
        np.add.at(histogram, place, weight)
    palette: Palette = (histogram.ravel() / len(chosen)).astype(np.float32)
    return palette


def palette_of_photos(photos: Sequence[Photo]) -> Palette | None:
    """The palette of the product of ``photos``, from those with a mask; ``None`` without any."""
    masked = [
        palette_of(photo.pixels, photo.mask >= OPAQUE) for photo in photos if photo.mask is not None
    ]
    return mean_palette(masked) if masked else None


def mean_palette(palettes: Sequence[Palette]) -> Palette:
    """The palette of a product from those of its photos.

    Raises:
        ValueError: no palette.
    """
    if not palettes:
        raise ValueError("got no palettes; expected those of at least one photo")
    mean: Palette = np.mean(np.stack(palettes), axis=0).astype(np.float32)
    return mean


def palette_likeness(first: Palette, second: Palette) -> float:
    """``sum_k sqrt(first_k second_k)``: 1 for the same shares of the same colours, 0 for none."""
    return float(np.sqrt(first.astype(np.float64) * second).sum())


def palette_distance(first: Palette, second: Palette) -> float:
    """How far the colours of one must move to be the other's, in CIELAB units, 0 and more.

    The earth mover's distance (Rubner, Tomasi and Guibas, "The Earth Mover's Distance as a
    Metric for Image Retrieval", IJCV 40, 2000) over the colours of the bins: the mean way of
    a pixel. Unlike :func:`palette_likeness` it tells black from brown and black from white.
    """
    colors = _bin_colors()
    one, two = first >= _LEAST_SHARE, second >= _LEAST_SHARE
    return float(wasserstein_distance_nd(colors[one], colors[two], first[one], second[two]))


def palette_spread(palettes: Sequence[Palette]) -> float:
    """Median :func:`palette_distance` of a photo to the mean of the others; 0 for one photo."""
    if len(palettes) < 2:
        return 0.0
    distances = [
        palette_distance(own, mean_palette([*palettes[:index], *palettes[index + 1 :]]))
        for index, own in enumerate(palettes)
    ]
    return float(np.median(distances))


@cache
def _bin_colors() -> npt.NDArray[np.float64]:
    """CIELAB of each bin, ``(PALETTE_BINS, 3)``; what no screen shows is moved to the nearest."""
    lightness = np.linspace(0, 1, LIGHTNESS_BINS)
    chroma = np.linspace(-_CHROMA_LIMIT, _CHROMA_LIMIT, CHROMA_BINS)
    bins = np.stack(np.meshgrid(lightness, chroma, chroma, indexing="ij"), axis=-1)
    axes = np.array(((1 / 3, 1 / 3, 1 / 3), (1 / 2, -1 / 2, 0), (1 / 4, 1 / 4, -1 / 2)))
    rgb = bins.reshape(-1, 3) @ np.linalg.inv(axes).T
    colors: npt.NDArray[np.float64] = rgb2lab(np.clip(rgb, 0, 1))
    return colors
