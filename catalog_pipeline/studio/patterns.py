"""What is printed on a product: where its second colour replaces its first.

The base model is trained on :data:`BASE_PATTERNS` alone. :data:`UNSEEN_PATTERNS`
are kept from it, so that a sample product is truly new: the base knows its class
and its colours, and no prompt can describe its print to it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.studio.product import Emblem
from catalog_pipeline.studio.shapes import Points

Marks = npt.NDArray[np.bool_]
"""``(points,)``: true where the second colour is."""

BASE_PATTERNS = ("plain", "striped", "polka dot", "checkered", "two-tone")
UNSEEN_PATTERNS = ("zigzag", "star", "hearts", "diagonal")

_TURN = 2 * np.pi


def pattern_marks(
    pattern: str, p: Points, frequency: float = 6.0, emblem: Emblem | None = None
) -> Marks:
    """Where ``pattern`` puts the second colour.

    Args:
        pattern: one of :data:`BASE_PATTERNS` or :data:`UNSEEN_PATTERNS`.
        p: surface points, ``(3, points)``.
        frequency: fineness of the repeating base patterns, about 5..8.
        emblem: where a star or heart is printed.

    Raises:
        ConfigurationError: no such pattern.
    """
    if pattern in BASE_PATTERNS:
        return _base_marks(pattern, p, frequency)
    emblem = emblem or Emblem()
    angle = np.arctan2(p[0], p[2])
    if pattern == "zigzag":
        return _zigzag(angle, p[1])
    if pattern == "diagonal":
        return _diagonal(angle, p[1])
    if pattern == "star":
        return _star(*_emblem_plane(p, angle, emblem))
    if pattern == "hearts":
        return _heart(*_emblem_plane(p, angle, emblem))
    known = ", ".join(BASE_PATTERNS + UNSEEN_PATTERNS)
    raise ConfigurationError(f"unknown pattern {pattern!r}; expected one of: {known}")


def _base_marks(pattern: str, p: Points, frequency: float) -> Marks:
    y = p[1]
    if pattern == "plain":
        return np.zeros(y.shape, bool)
    if pattern == "striped":
        return np.asarray(np.sin(y * frequency * 2.6) > 0.2)
    if pattern == "two-tone":
        return np.asarray(y < -0.05)
    angle = np.arctan2(p[0], p[2])
    if pattern == "polka dot":
        u, v = angle * 2.2 * frequency / 6, y * frequency * 0.75
        return np.asarray(np.hypot((u % 1) - 0.5, (v % 1) - 0.5) < 0.27)
    column, row = np.floor(angle * 2.0 * frequency / 6), np.floor(y * frequency * 0.7)
    return np.asarray((column + row) % 2 > 0.5)  # checkered


# The unseen patterns ignore the frequency: their motifs are as large as a product
# allows, because a picture of 128 px must still show them.


def _zigzag(angle: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Marks:
    teeth, amplitude, period = 8, 0.2, 0.46
    wave = np.abs((angle / _TURN * teeth) % 1 - 0.5) * 2  # triangle, 0..1
    return np.asarray(((y + amplitude * wave) / period) % 1 < 0.5)


def _diagonal(angle: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Marks:
    starts, period = 3, 0.72
    return np.asarray((y / period + angle / _TURN * starts) % 1 < 0.5)


def _emblem_plane(
    p: Points, angle: npt.NDArray[np.float64], emblem: Emblem
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Coordinates in which the motif has radius 1 around the origin, ``y`` up."""
    right, up = {"front": (p[0], p[1]), "top": (p[0], -p[2]), "side": (p[2], p[1])}[emblem.face]
    v = (up - emblem.center_y) / emblem.radius
    if emblem.around == 1:
        return (right - emblem.center_x) / emblem.radius, v
    sector = _TURN / emblem.around
    offset = (angle + sector / 2) % sector - sector / 2
    return offset * np.hypot(p[0], p[2]) / emblem.radius, v


def _star(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> Marks:
    """A five-pointed star of outer radius 1, one tip up."""
    valley_radius, half = 0.46, np.pi / 5
    fold = np.abs((np.arctan2(u, v) + half) % (2 * half) - half)  # 0 at a tip, half in a valley
    radius = np.hypot(u, v)
    along, across = radius * np.cos(fold), radius * np.sin(fold)
    valley_x, valley_y = valley_radius * np.cos(half), valley_radius * np.sin(half)
    return np.asarray((1 - along) * valley_y - across * (1 - valley_x) > 0)


def _heart(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> Marks:
    """A heart that fills the unit circle: ``(x^2 + y^2 - 1)^3 < x^2 y^3``."""
    x, y = u * 1.18, v * 1.18 + 0.1
    return np.asarray((x**2 + y**2 - 1) ** 3 - x**2 * y**3 < 0)
