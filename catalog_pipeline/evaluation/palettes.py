"""Colour palettes: which colours a product has, as a small histogram, never as pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from catalog_pipeline.records import Palette, Photo, Pixels

LIGHTNESS_BINS = 4
CHROMA_BINS = 6
PALETTE_BINS = LIGHTNESS_BINS * CHROMA_BINS**2
OPAQUE = 128
"""Opacity, 0..255, from which a pixel of a photo is the product's."""
_CHROMA_LIMIT = 0.30
"""Of the opponent axes, where saturated colours of pictures end."""


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
