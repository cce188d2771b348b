"""Every kind of background, under the words that captions use for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from PIL import Image

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.records import Pixels
from catalog_pipeline.studio import surfaces, vistas
from catalog_pipeline.studio.canvas import SIDE_PX, Picture, filled, stacked, tone, varied
from catalog_pipeline.studio.palette import PALETTE

Painter = Callable[[Generator], Picture]

_BACKDROP_COLORS = (
    "white",
    "red",
    "blue",
    "green",
    "yellow",
    "pink",
    "gray",
    "black",
    "orange",
    "purple",
    "teal",
    "beige",
)
_PURE_WHITE = (250, 250, 250)


def _eye_level(rng: Generator, upper: Picture, lower: Picture) -> Picture:
    """``upper`` over ``lower`` with the horizon where a table's edge usually is."""
    return stacked(upper, lower, rng.uniform(0.42, 0.6))


def _wooden_table(rng: Generator) -> Picture:
    return _eye_level(rng, surfaces.wall(rng), surfaces.wood(rng))


def _marble_counter(rng: Generator) -> Picture:
    wall = surfaces.wall(rng, varied(rng, (190, 205, 210)))
    return _eye_level(rng, wall, surfaces.marble(rng))


def _green_grass(rng: Generator) -> Picture:
    return stacked(vistas.clouds(rng), surfaces.grass(rng), rng.uniform(0.3, 0.5))


def _sandy_beach(rng: Generator) -> Picture:
    view = stacked(vistas.sky(rng), surfaces.sea(rng), 0.32)
    return stacked(view, surfaces.sand(rng), rng.uniform(0.5, 0.6))


def _brick_wall(rng: Generator) -> Picture:
    wall = surfaces.brick(rng)
    pavement = surfaces.ground(rng, varied(rng, (150, 148, 145)), 0.9, 0.1)
    return stacked(wall, pavement, rng.uniform(0.7, 0.8))


def _cobblestone_street(rng: Generator) -> Picture:
    house = filled(varied(rng, (170, 165, 160)))
    return stacked(house, surfaces.cobble(rng), rng.uniform(0.25, 0.4))


def _mountains(rng: Generator) -> Picture:
    return stacked(vistas.mountains(rng), surfaces.grass(rng), 0.6)


def _city(rng: Generator) -> Picture:
    skyline = vistas.city(rng)
    return stacked(skyline, filled(varied(rng, (110, 110, 115))), 0.62)


def _checkered_tablecloth(rng: Generator) -> Picture:
    wall = surfaces.wall(rng)
    color = PALETTE[str(rng.choice(["red", "blue", "green"]))]
    return stacked(wall, surfaces.gingham(rng, tone(color)), rng.uniform(0.3, 0.45))


def _stone_floor(rng: Generator) -> Picture:
    wall = surfaces.wall(rng, varied(rng, (160, 160, 165)))
    floor = surfaces.ground(rng, varied(rng, (140, 138, 135)), 0.8, 0.3, detail=2)
    return _eye_level(rng, wall, floor)


def _road(rng: Generator) -> Picture:
    view = vistas.clouds(rng)
    asphalt = surfaces.ground(rng, varied(rng, (85, 85, 90), 6), 0.85, 0.2, detail=4)
    return stacked(view, asphalt, 0.45)


def _pink_fabric(rng: Generator) -> Picture:
    return surfaces.fabric(rng, varied(rng, (240, 150, 180)))


def _blue_fabric(rng: Generator) -> Picture:
    return surfaces.fabric(rng, varied(rng, (90, 130, 210)))


def _backdrop(color: str) -> Painter:
    base = _PURE_WHITE if color == "white" else PALETTE[color]
    return lambda rng: surfaces.paper(rng, varied(rng, base, 6))


BACKGROUNDS: Mapping[str, Painter] = MappingProxyType(
    {
        "on a wooden table": _wooden_table,
        "on a marble counter": _marble_counter,
        "on green grass": _green_grass,
        "on a sandy beach": _sandy_beach,
        "in the snow": vistas.snow,
        "in front of a brick wall": _brick_wall,
        "on a cobblestone street": _cobblestone_street,
        "floating on water": surfaces.sea,
        "in the jungle": surfaces.leaves,
        "with mountains in the background": _mountains,
        "with a city in the background": _city,
        "in a living room": vistas.living_room,
        "on a checkered tablecloth": _checkered_tablecloth,
        "on a stone floor": _stone_floor,
        "on pink fabric": _pink_fabric,
        "on blue fabric": _blue_fabric,
        "on a road": _road,
        "under a blue sky": vistas.clouds,
        **{f"on a {color} background": _backdrop(color) for color in _BACKDROP_COLORS},
    }
)


def paint_background(kind: str, seed: int, side_px: int = SIDE_PX) -> Pixels:
    """A background of ``kind``, ``(side_px, side_px, 3)``; the same seed, the same pixels.

    Painted at 128 px and scaled from there, so that ``side_px`` changes the size only.

    Raises:
        ConfigurationError: no such kind.
    """
    if kind not in BACKGROUNDS:
        raise ConfigurationError(
            f"unknown background {kind!r}; expected one of: {', '.join(BACKGROUNDS)}"
        )
    rng = np.random.default_rng(seed)
    picture = np.clip(BACKGROUNDS[kind](rng), 0, 255) * rng.uniform(0.9, 1.05)
    grainy = picture + rng.normal(0, 2, picture.shape)
    pixels: Pixels = np.clip(grainy, 0, 255).astype(np.uint8)
    if side_px == SIDE_PX:
        return pixels
    image = Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.asarray(image)
