"""Scenes of plain coloured shapes, whose captions and masks are known, and who finds them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from catalog_pipeline.records import Pixels

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (214, 40, 40),
    "green": (32, 160, 70),
    "blue": (40, 80, 210),
    "yellow": (240, 205, 40),
}
HEIGHT, WIDTH = 48, 72
RADII = (8, 10.5)
COLOUR_REACH = 90.0
"""Greatest distance in RGB of a pixel to the colour that it is taken for."""
LEAST_PIXELS = 30
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ShapeScene:
    """``things`` as ``red circle``, in the order of the caption; ``masks`` ``(things, h, w)``."""

    things: tuple[str, ...]
    pixels: Pixels
    masks: Mask

    @property
    def caption(self) -> str:
        return caption(self.things)


def caption(things: Sequence[str]) -> str:
    """``a red circle, a blue square and a green cross``."""
    phrases = [f"a {thing}" for thing in things]
    return " and ".join([*([", ".join(phrases[:-1])] if phrases[1:] else []), phrases[-1]])


def draw_things(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """Things of different shapes and colours."""
    colours = rng.choice(list(COLOURS), count, replace=False)
    shapes = rng.choice(SHAPES, count, replace=False)
    return tuple(f"{colour} {shape}" for colour, shape in zip(colours, shapes, strict=True))


def draw_scene(rng: np.random.Generator, things: Sequence[str]) -> ShapeScene:
    """``things`` beside one another, in an order that the caption does not tell."""
    pixels = np.full((HEIGHT, WIDTH, 3), rng.integers(215, 250), np.float64)
    masks = np.zeros((len(things), HEIGHT, WIDTH), bool)
    columns = rng.permutation(len(things))
    pitch = WIDTH / len(things)
    for index, thing in enumerate(things):
        colour, shape = thing.split(" ")
        radius = rng.uniform(*RADII)
        free = pitch / 2 - radius
        x = (columns[index] + 0.5) * pitch + rng.uniform(-free, free)
        y = rng.uniform(radius + 2, HEIGHT - radius - 2)
        masks[index] = outline(shape, x, y, radius)
        pixels[masks[index]] = COLOURS[colour]
    pixels += rng.normal(0, 2, pixels.shape)
    return ShapeScene(tuple(things), np.clip(pixels, 0, 255).astype(np.uint8), masks)


def outline(
    shape: str, x: float, y: float, radius: float, height: int = HEIGHT, width: int = WIDTH
) -> Mask:
    """Where the shape around ``(x, y)`` is."""
    rows, columns = np.mgrid[:height, :width]
    right, down = (columns + 0.5 - x) / radius, (rows + 0.5 - y) / radius
    if shape == "circle":
        found = right**2 + down**2 <= 1
    elif shape == "square":
        found = np.maximum(abs(right), abs(down)) <= 0.85
    elif shape == "triangle":
        found = (abs(right) <= (down + 1) / 2) & (down <= 1)
    else:
        arms = np.minimum(abs(right), abs(down)) <= 0.35
        found = arms & (np.maximum(abs(right), abs(down)) <= 1)
    return np.asarray(found, bool)


def find_things(pixels: Pixels) -> list[str]:
    """Every thing that a picture shows, as ``red circle``."""
    colours = np.array(list(COLOURS.values()), np.float64)
    away = np.linalg.norm(pixels[:, :, None].astype(np.float64) - colours, axis=-1)
    nearest = np.where(away.min(-1) <= COLOUR_REACH, away.argmin(-1), -1)
    found = []
    for number, colour in enumerate(COLOURS):
        parts, count = label(nearest == number)
        for part in range(1, count + 1):
            mask = parts == part
            if mask.sum() >= LEAST_PIXELS:
                found.append(f"{colour} {name_shape(mask)}")
    return found


def name_shape(mask: Mask) -> str:
    """The shape that overlaps most with ``mask``, laid over its bounding box."""
    rows, columns = np.nonzero(mask)
    top, left = rows.min(), columns.min()
    seen = mask[top : rows.max() + 1, left : columns.max() + 1]
    height, width = seen.shape
    radius = max(height, width) / 2

    def overlap(shape: str) -> float:
        reach = radius / 0.85 if shape == "square" else radius
        ideal = outline(shape, width / 2, height / 2, reach, height, width)
        return float((ideal & seen).sum() / (ideal | seen).sum())

    return max(SHAPES, key=overlap)


def judge_picture(pixels: Pixels, things: Sequence[str]) -> dict[str, str]:
    """``{thing: found, swapped, duplicated or missing}``; swapped has a neighbour's colour."""
    seen = find_things(pixels)
    named = [thing.split(" ") for thing in things]
    said = {}
    for colour, shape in named:
        thing = f"{colour} {shape}"
        if seen.count(thing) == 1:
            said[thing] = "found"
        elif seen.count(thing):
            said[thing] = "duplicated"
        elif any(f"{other} {shape}" in seen for other, _ in named):
            said[thing] = "swapped"
        else:
            said[thing] = "missing"
    return said
