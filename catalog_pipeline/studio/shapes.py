"""Signed-distance primitives and the ways to place and combine them.

A shape is a function from points ``(3, points)`` to distances ``(points,)``:
negative inside, positive outside, in studio units (a product is about 1.5 high,
``y`` up, ``z`` towards the customer). Sizes are half extents, as in ``box``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Distances = npt.NDArray[np.float64]
Shape = Callable[[Points], Distances]
Vector = tuple[float, float, float]

_EPSILON = 1e-6


def _column(vector: Vector) -> npt.NDArray[np.float64]:
    return np.array(vector, dtype=np.float64)[:, None]  # (3, 1)


def _length(*components: npt.NDArray[np.float64]) -> Distances:
    """Euclidean length; cheaper than ``hypot``, whose overflow care is not needed here."""
    total = components[0] * components[0]
    for component in components[1:]:
        total += component * component
    return np.asarray(np.sqrt(total, out=total))


def _capped(side: Distances, cap: Distances, rounding: float) -> Distances:
    """Distance to a solid bounded by ``side`` around and ``cap`` above and below."""
    outside = _length(np.maximum(side, 0), np.maximum(cap, 0))
    return np.minimum(np.maximum(side, cap), 0) + outside - rounding


# --- primitives, centred at the origin ----------------------------------------------


def sphere(radius: float) -> Shape:
    """A ball."""
    return lambda p: _length(*p) - radius


def ellipsoid(radii: Vector) -> Shape:
    """A ball stretched to ``radii``; the distance is a first-order estimate."""
    r = _column(radii)

    def shape(p: Points) -> Distances:
        scaled = p / r
        k0 = _length(*scaled)
        k1 = _length(*(scaled / r))
        return np.asarray(k0 * (k0 - 1.0) / np.maximum(k1, _EPSILON))

    return shape


def box(half_size: Vector, rounding: float = 0.02) -> Shape:
    """A box whose edges are rounded by ``rounding``."""
    core = _column(half_size) - rounding

    def shape(p: Points) -> Distances:
        q = np.abs(p) - core
        outside = _length(*np.maximum(q, 0))
        return np.asarray(outside + np.minimum(q.max(axis=0), 0) - rounding)

    return shape


def cylinder(radius: float, half_height: float, rounding: float = 0.015) -> Shape:
    """An upright cylinder with rounded rims."""

    def shape(p: Points) -> Distances:
        side = _length(p[0], p[2]) - radius + rounding
        return _capped(side, np.abs(p[1]) - half_height + rounding, rounding)

    return shape


def cone(bottom: float, top: float, half_height: float, rounding: float = 0.01) -> Shape:
    """An upright frustum with radii ``bottom`` and ``top``."""
    slope = 1 / np.sqrt(1 + ((bottom - top) / (2 * half_height)) ** 2)

    def shape(p: Points) -> Distances:
        share = np.clip((p[1] + half_height) / (2 * half_height), 0, 1)
        radius = bottom + (top - bottom) * share
        side = (_length(p[0], p[2]) - radius) * slope
        return _capped(side, np.abs(p[1]) - half_height, rounding)

    return shape


def torus(ring_radius: float, tube_radius: float) -> Shape:
    """A ring that stands in the xy-plane, as a cup's handle does."""
    return lambda p: _length(_length(p[0], p[1]) - ring_radius, p[2]) - tube_radius


def capsule(start: Vector, end: Vector, radius: float) -> Shape:
    """A round rod from ``start`` to ``end``."""
    a, axis = _column(start), _column(end) - _column(start)
    squared_length = float((axis * axis).sum())

    def shape(p: Points) -> Distances:
        q = p - a
        along = (q[0] * axis[0] + q[1] * axis[1] + q[2] * axis[2]) / squared_length
        return _length(*(q - np.clip(along, 0, 1) * axis)) - radius

    return shape


def below(height: float) -> Shape:
    """Everything under a level."""
    return lambda p: p[1] - height


def above(height: float) -> Shape:
    """Everything over a level."""
    return lambda p: height - p[1]


# --- placing and combining ----------------------------------------------------------


def turned(p: Points, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Points:
    """Points turned about the y, then the x, then the z axis, by radians."""
    if y:
        c, s = np.cos(y), np.sin(y)
        p = np.stack([c * p[0] - s * p[2], p[1], s * p[0] + c * p[2]])
    if x:
        c, s = np.cos(x), np.sin(x)
        p = np.stack([p[0], c * p[1] - s * p[2], s * p[1] + c * p[2]])
    if z:
        c, s = np.cos(z), np.sin(z)
        p = np.stack([c * p[0] - s * p[1], s * p[0] + c * p[1], p[2]])
    return p


def at(
    shape: Shape,
    x: float = 0.0,
    y: float = 0.0,
    z: float = 0.0,
    *,
    turn_x: float = 0.0,
    turn_y: float = 0.0,
    turn_z: float = 0.0,
) -> Shape:
    """``shape`` moved to ``(x, y, z)``, turned there by radians about each axis."""
    offset = _column((x, y, z))
    return lambda p: shape(turned(p - offset, turn_x, turn_y, turn_z))


def scaled(shape: Shape, factors: Vector, step: float) -> Shape:
    """``shape`` seen in coordinates multiplied by ``factors``.

    ``step`` shortens the distance so that tracing never jumps through: at most
    ``1 / max(factors)``.
    """
    f = _column(factors)
    return lambda p: shape(p * f) * step


def union(*shapes: Shape) -> Shape:
    """Everything inside any of ``shapes``."""

    def shape(p: Points) -> Distances:
        nearest = shapes[0](p)
        for other in shapes[1:]:
            nearest = np.minimum(nearest, other(p))
        return nearest

    return shape


def intersection(*shapes: Shape) -> Shape:
    """Everything inside all of ``shapes``."""

    def shape(p: Points) -> Distances:
        farthest = shapes[0](p)
        for other in shapes[1:]:
            farthest = np.maximum(farthest, other(p))
        return farthest

    return shape


def cut(shape: Shape, tool: Shape) -> Shape:
    """``shape`` without what lies inside ``tool``."""
    return lambda p: np.maximum(shape(p), -tool(p))
