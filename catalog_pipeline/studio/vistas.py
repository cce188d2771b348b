"""Far views and rooms: skies, mountains, cities, a living room, falling snow."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from catalog_pipeline.studio.canvas import (
    DOWN,
    SIDE_PX,
    Picture,
    fbm,
    filled,
    mixed,
    stacked,
    varied,
)
from catalog_pipeline.studio.surfaces import wall, wood

_FRAME = (235, 235, 230)


def sky(rng: Generator) -> Picture:
    """A clear sky, paler towards the horizon."""
    zenith = filled(varied(rng, (110, 165, 225)))
    return mixed(zenith, filled((225, 235, 245)), np.clip(DOWN * 1.6, 0, 1))


def clouds(rng: Generator) -> Picture:
    """A sky with clouds."""
    cover = np.clip((fbm(rng, 1, 2) - 0.5) * 4, 0, 1)
    return mixed(sky(rng), filled((250, 250, 250)), cover)


def mountains(rng: Generator) -> Picture:
    """Two ranges, the farther ones with snow on the peaks."""
    picture = clouds(rng)
    columns = np.arange(SIDE_PX)
    for distance in range(2):
        level = 0.35 + 0.12 * distance
        peaks = rng.uniform(level - 0.2, level + 0.1, 9)
        ridge = np.interp(columns, np.linspace(0, SIDE_PX, 9), peaks)[None]
        rock = ridge < DOWN
        shade = (110 - 30 * distance, 120 - 20 * distance, 140 - 40 * distance)
        picture[rock] = varied(rng, shade)
        picture[rock & (ridge + 0.05 > DOWN) & (ridge < level - 0.05)] = (240, 243, 248)
    return picture


def city(rng: Generator) -> Picture:
    """A skyline with windows, some of them lit."""
    picture = clouds(rng) * 0.95
    street = int(0.62 * SIDE_PX)
    x = 0
    while x < SIDE_PX:
        width = int(rng.integers(10, 24))
        height = rng.uniform(0.08, 0.4)
        facade = varied(rng, (120, 125, 140), 22)
        roof = int(height * SIDE_PX)
        picture[roof:street, x : x + width] = facade
        for y in range(roof + 4, int(0.6 * SIDE_PX), 6):
            for left in range(x + 2, min(x + width - 3, SIDE_PX - 3), 5):
                if rng.random() < 0.6:
                    lamp_on = rng.random() < 0.4
                    glass = (250, 225, 150) if lamp_on else (70, 80, 100)
                    picture[y : y + 3, left : left + 2] = glass
        x += width + int(rng.integers(0, 3))
    return picture


def living_room(rng: Generator) -> Picture:
    """A wall above a wooden floor, usually with a window."""
    picture = stacked(wall(rng), wood(rng), 0.66)
    start = rng.uniform(0.05, 0.6)
    if rng.random() < 0.7:
        left, right = int(start * SIDE_PX), int((start + 0.32) * SIDE_PX)
        middle = (left + right) // 2
        picture[10:58, left:right] = _FRAME
        picture[13:55, left + 3 : right - 3] = sky(rng)[13:55, left + 3 : right - 3]
        picture[10:58, middle - 1 : middle + 1] = _FRAME
    return picture


def snow(rng: Generator) -> Picture:
    """Snow on the ground and in the air."""
    air = filled(varied(rng, (185, 200, 220), 8))
    field = mixed(filled((225, 232, 242)), filled((252, 252, 255)), fbm(rng, 2, 2))
    picture = stacked(air, field, rng.uniform(0.42, 0.6))
    for _ in range(60):
        y, x = rng.integers(0, SIDE_PX - 2, 2)
        picture[y : y + 2, x : x + 2] = 255
    return picture
