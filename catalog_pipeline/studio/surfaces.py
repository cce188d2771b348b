"""Materials: what a product stands on or in front of."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from catalog_pipeline.studio.canvas import (
    ACROSS,
    COLUMN,
    DOWN,
    ROW,
    SIDE_PX,
    Picture,
    Tone,
    fbm,
    filled,
    lit,
    mixed,
    varied,
)

_TURN = 6.28
_HALF_TURN = 3.14


def wood(rng: Generator) -> Picture:
    """Planks with a wavy grain."""
    noise = fbm(rng, 0.6, 6, 4)
    grain = np.sin((DOWN * rng.uniform(8, 16) + noise * 5) * _TURN) * 0.5 + 0.5
    dark, light = filled(varied(rng, (150, 100, 60))), filled(varied(rng, (195, 145, 95)))
    return mixed(dark, light, grain * 0.6 + noise * 0.4)


def wall(rng: Generator, color: Tone | None = None) -> Picture:
    """A painted wall, a little brighter at the top."""
    paint = varied(rng, (215, 210, 200), 20) if color is None else color
    return lit(filled(paint), 0.92 + 0.1 * (1 - DOWN))


def paper(rng: Generator, color: Tone) -> Picture:
    """A photographer's backdrop: one colour, darker to the edges, with a soft fold."""
    vignette = 1 - 0.25 * ((ACROSS - 0.5) ** 2 + (DOWN - 0.55) ** 2)
    fold = np.where(rng.uniform(0.55, 0.75) < DOWN, 0.95, 1.0)
    return lit(lit(filled(color), vignette * 0.95 + 0.05), fold)


def grass(rng: Generator) -> Picture:
    """A lawn."""
    noise = fbm(rng, 6, 3, 4, 6)
    dark, light = filled(varied(rng, (45, 110, 40))), filled(varied(rng, (120, 180, 70)))
    return mixed(dark, light, noise)


def sand(rng: Generator) -> Picture:
    """Dry sand."""
    noise = fbm(rng, 4, 4, 5, 6)
    return mixed(filled(varied(rng, (205, 175, 125))), filled((240, 220, 175)), noise)


def sea(rng: Generator) -> Picture:
    """Rippled water."""
    noise = fbm(rng, 1.2, 6, 4)
    deep, shallow = filled(varied(rng, (20, 85, 140))), filled(varied(rng, (110, 180, 205)))
    return mixed(deep, shallow, noise)


def brick(rng: Generator) -> Picture:
    """A running bond of bricks, each of its own tone."""
    width, height = rng.integers(16, 26), rng.integers(8, 12)
    course = ROW // height
    shifted = COLUMN + (course % 2) * (width // 2)
    mortar = (ROW % height < 1) | (shifted % width < 1)
    tones = rng.random((SIDE_PX // height + 2, SIDE_PX // width + 3))[course, shifted // width]
    dark, light = filled(varied(rng, (150, 65, 50))), filled(varied(rng, (190, 100, 80)))
    picture = mixed(dark, light, tones)
    picture[mortar] = (200, 190, 180)
    return picture


def marble(rng: Generator) -> Picture:
    """White marble with gray veins."""
    noise = fbm(rng, 1, 1, 6, 3)
    vein = np.exp(-np.abs(np.sin((noise * 6 + ACROSS * 2) * _HALF_TURN)) * 9)
    return mixed(filled(varied(rng, (236, 234, 232), 4)), filled((150, 150, 155)), vein * 0.7)


def cobble(rng: Generator) -> Picture:
    """Round stones: bright where the two nearest of ninety centres differ in distance."""
    centres = rng.random((90, 2))
    distances = np.hypot(DOWN[..., None] - centres[:, 0], ACROSS[..., None] - centres[:, 1])
    distances.sort(-1)  # (side, side, 90), nearest first
    stone = np.clip((distances[..., 1] - distances[..., 0]) * 30, 0, 1)
    return mixed(filled((70, 68, 66)), filled(varied(rng, (150, 145, 138))), stone)


def fabric(rng: Generator, color: Tone) -> Picture:
    """Cloth with soft folds."""
    folds = np.sin((ACROSS * 3 + fbm(rng, 1, 1, 3, 2) * 3) * _TURN) * 0.5 + 0.5
    return lit(filled(color), 0.78 + 0.22 * folds)


def gingham(rng: Generator, color: Tone) -> Picture:
    """A checked tablecloth."""
    side = rng.integers(10, 18)
    weave = ((ROW // side % 2) + (COLUMN // side % 2)) / 2.0
    return mixed(filled((245, 242, 238)), filled(color), weave)


def leaves(rng: Generator) -> Picture:
    """Dense foliage."""
    noise = fbm(rng, 3, 3, 5, 5)
    shade, sun = filled(varied(rng, (15, 55, 25))), filled(varied(rng, (90, 160, 60)))
    return mixed(shade, sun, np.clip(noise * 1.6 - 0.3, 0, 1))


def ground(
    rng: Generator,
    color: Tone,
    base: float,
    contrast: float,
    detail: float = 1.0,
) -> Picture:
    """Plain ground whose brightness wanders from ``base`` up to ``base + contrast``."""
    return lit(filled(color), base + contrast * fbm(rng, detail, detail))
