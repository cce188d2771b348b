"""Fields and mixes that backgrounds are painted with; a canvas is 128 x 128."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from catalog_pipeline.studio.palette import Color

SIDE_PX = 128

Picture = npt.NDArray[np.float64]
"""``(SIDE_PX, SIDE_PX, 3)``, 0..255 before rounding."""

Field = npt.NDArray[np.float64]
"""``(SIDE_PX, SIDE_PX)``, usually 0..1."""

Tone = npt.NDArray[np.float64]
"""One colour, ``(3,)``, 0..255."""

DOWN, ACROSS = np.mgrid[0:SIDE_PX, 0:SIDE_PX] / (SIDE_PX - 1)
"""0..1 from the top, and from the left."""

ROW, COLUMN = np.mgrid[0:SIDE_PX, 0:SIDE_PX]
"""The same in pixels."""


def fbm(
    rng: Generator, across: float = 1.0, down: float = 1.0, octaves: int = 5, cells: int = 4
) -> Field:
    """Fractal Brownian motion: octaves of smooth value noise, each twice as fine, half as strong.

    ``cells * across`` by ``cells * down`` cells in the first octave; 0..1.
    """
    total, weight = np.zeros((SIDE_PX, SIDE_PX)), 0.0
    for octave in range(octaves):
        amplitude = 0.5**octave
        total += amplitude * _value_noise(
            rng,
            max(2, int(cells * across * 2**octave)),
            max(2, int(cells * down * 2**octave)),
        )
        weight += amplitude
    return total / weight


def _value_noise(rng: Generator, columns: int, rows: int) -> Field:
    """Random values at the corners of a grid, smoothly interpolated between them."""
    grid = rng.random((rows + 1, columns + 1))
    y, x = np.linspace(0, rows - 1e-3, SIDE_PX), np.linspace(0, columns - 1e-3, SIDE_PX)
    row, column = y.astype(int), x.astype(int)
    fy, fx = _smooth(y - row)[:, None], _smooth(x - column)[None]
    upper, lower = grid[row], grid[row + 1]
    top = upper[:, column] * (1 - fx) + upper[:, column + 1] * fx
    bottom = lower[:, column] * (1 - fx) + lower[:, column + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy)


def _smooth(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return share * share * (3 - 2 * share)


def tone(color: Color | Tone) -> Tone:
    """``color`` as an array."""
    return np.array(color, dtype=np.float64)


def varied(rng: Generator, color: Color, spread: float = 14) -> Tone:
    """``color`` with each channel off by a normal deviation of ``spread``."""
    return np.asarray(np.clip(tone(color) + rng.normal(0, spread, 3), 0, 255))


def filled(color: Color | Tone) -> Picture:
    """A canvas of one colour."""
    return np.ones((SIDE_PX, SIDE_PX, 3)) * tone(color)


def mixed(first: Picture, second: Picture, share: Field) -> Picture:
    """``first`` where ``share`` is 0, ``second`` where it is 1."""
    return first * (1 - share[..., None]) + second * share[..., None]


def lit(picture: Picture, brightness: Field) -> Picture:
    """Each pixel times its ``brightness``."""
    return picture * brightness[..., None]


def stacked(upper: Picture, lower: Picture, level: float) -> Picture:
    """``upper`` above ``level`` (0 = top edge, 1 = bottom edge), ``lower`` below it."""
    return mixed(upper, lower, np.clip((DOWN - level) * 40, 0, 1))
