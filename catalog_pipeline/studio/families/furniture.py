"""Lamps, chairs, stools, tables and sofas."""

from __future__ import annotations

from math import cos, pi, sin

from numpy.random import Generator

from catalog_pipeline.studio.palette import Color
from catalog_pipeline.studio.product import Emblem, Part
from catalog_pipeline.studio.shapes import Shape, at, box, capsule, cone, cylinder, union

_SIDES = (-1, 1)


def _four(leg: Shape, x: float, y: float, z: float) -> Shape:
    """One leg at each corner ``(+-x, y, +-z)``."""
    return union(*(at(leg, x=i * x, y=y, z=k * z) for i in _SIDES for k in _SIDES))


def lamp(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A table lamp: a patterned shade on a stem and foot in the second colour."""
    radius = rng.uniform(0.42, 0.58)
    top = radius * rng.uniform(0.45, 0.7)
    return [
        Part(
            at(cone(radius, top, 0.32), y=0.45),
            primary,
            painted=True,
            emblem=Emblem(center_y=0.43, radius=0.26),
        ),
        Part(cylinder(0.045, 0.75), secondary),
        Part(at(cylinder(0.34, 0.06), y=-0.75), secondary),
    ]


def chair(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A chair with an upholstered seat and back, legs in the second colour."""
    width = 0.42
    return [
        Part(
            at(box((width, 0.07, width), 0.05), y=-0.12),
            primary,
            painted=True,
            emblem=Emblem(center_y=-0.08, radius=0.27, face="top"),
        ),
        Part(
            at(box((width, 0.42, 0.06), 0.05), y=0.38, z=-width + 0.05),
            primary,
            painted=True,
            emblem=Emblem(center_y=0.4, radius=0.32),
        ),
        Part(_four(cylinder(0.045, 0.35), width - 0.06, -0.5, width - 0.06), secondary),
    ]


def stool(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A round stool on four splayed legs in the second colour."""
    radius = rng.uniform(0.38, 0.48)
    corners = [i * pi / 2 + 0.4 for i in range(4)]
    legs = union(
        *(
            capsule(
                (radius * 0.6 * cos(a), 0.2, radius * 0.6 * sin(a)),
                (radius * cos(a), -0.8, radius * sin(a)),
                0.05,
            )
            for a in corners
        )
    )
    seat = at(cylinder(radius, 0.09, 0.05), y=0.28)
    emblem = Emblem(center_y=0.0, radius=radius * 0.85, face="top")
    return [Part(seat, primary, painted=True, emblem=emblem), Part(legs, secondary)]


def table(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A long table, legs in the second colour."""
    width, depth = rng.uniform(0.75, 0.85), rng.uniform(0.4, 0.5)
    return [
        Part(
            at(box((width, 0.06, depth), 0.03), y=0.12),
            primary,
            painted=True,
            emblem=Emblem(center_y=0.0, radius=depth * 0.9, face="top"),
        ),
        Part(_four(box((0.05, 0.38, 0.05)), width - 0.1, -0.3, depth - 0.1), secondary),
    ]


def sofa(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A two-seat sofa on short feet in the second colour."""
    arm = box((0.12, 0.3, 0.42), 0.1)
    return [
        Part(
            at(box((0.75, 0.16, 0.4), 0.08), y=-0.25),
            primary,
            painted=True,
            emblem=Emblem(center_y=-0.1, radius=0.26, face="top"),
        ),
        Part(
            at(box((0.8, 0.35, 0.12), 0.1), y=0.02, z=-0.35),
            primary,
            painted=True,
            emblem=Emblem(center_y=0.13, radius=0.2),
        ),
        Part(union(*(at(arm, x=i * 0.78, y=-0.12) for i in _SIDES)), primary),
        Part(_four(cylinder(0.05, 0.08), 0.7, -0.5, 0.3), secondary),
    ]
