"""What a product is: coloured parts, some of which carry its pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from catalog_pipeline.studio.palette import Color
from catalog_pipeline.studio.shapes import Shape


@dataclass(frozen=True)
class Emblem:
    """Where a single motif (a star, a heart) fits on a painted part, in studio units.

    ``face`` is where it can be seen: the front and back, the top, or both sides;
    ``center_x`` and ``center_y`` are measured on it, rightwards and upwards.
    ``around`` > 1 repeats the motif so many times around the upright axis, for
    round bodies; 1 prints it once on each face.
    """

    center_x: float = 0.0
    center_y: float = -0.05
    radius: float = 0.38
    around: int = 1
    face: Literal["front", "top", "side"] = "front"


@dataclass(frozen=True)
class Part:
    """One solid of a product.

    ``painted`` parts carry the product's pattern over ``color``. ``gloss`` 0..1
    overrides the product's own where the material demands it (glass, wax).
    """

    shape: Shape
    color: Color
    painted: bool = False
    gloss: float | None = None
    emblem: Emblem = Emblem()


@dataclass(frozen=True)
class Product:
    """A product before the camera.

    ``pattern`` is drawn in ``secondary`` on the painted parts; ``gloss`` 0..1;
    ``pattern_frequency`` about 5..8, higher is finer.
    """

    parts: tuple[Part, ...]
    pattern: str
    secondary: Color
    gloss: float = 0.4
    pattern_frequency: float = 6.0
