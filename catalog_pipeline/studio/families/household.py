"""Candles, clocks, cameras, books, gifts, groceries and plants."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np
from numpy.random import Generator

from catalog_pipeline.studio.palette import Color
from catalog_pipeline.studio.product import Emblem, Part
from catalog_pipeline.studio.shapes import (
    Distances,
    Points,
    Shape,
    at,
    box,
    capsule,
    cone,
    cut,
    cylinder,
    ellipsoid,
    scaled,
    sphere,
    torus,
    union,
)

_SIDES = (-1, 1)
_WICK, _FLAME = (40, 40, 40), (255, 190, 60)
_DIAL, _PAPER, _LEAF = (245, 243, 235), (240, 236, 220), (60, 150, 70)
_LENS, _BUTTON, _METAL = (25, 30, 45), (200, 60, 50), (190, 192, 198)


def _facing(shape: Shape, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Shape:
    """An upright cylinder laid so that its lid looks at the customer."""
    return at(shape, x, y, z, turn_x=pi / 2)


def candle(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A lit pillar candle."""
    radius, height = rng.uniform(0.3, 0.42), rng.uniform(0.4, 0.55)
    emblem = Emblem(radius=radius * 0.9)
    return [
        Part(
            cylinder(radius, height, 0.04),
            primary,
            painted=True,
            emblem=emblem,
        ),
        Part(at(cylinder(0.025, 0.07), y=height + 0.05), _WICK),
        Part(at(ellipsoid((0.07, 0.15, 0.07)), y=height + 0.22), _FLAME, gloss=0),
    ]


def alarm_clock(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A bell alarm clock at a random time; hands and feet in the second colour.

    It carries no pattern: its front is the dial.
    """
    radius = rng.uniform(0.52, 0.6)
    a, b = rng.uniform(0, 6.28), rng.uniform(0, 6.28)
    front = 0.18
    hands = union(
        capsule((0, 0, front), (0.36 * sin(a), 0.36 * cos(a), front), 0.03),
        capsule((0, 0, front), (0.25 * sin(b), 0.25 * cos(b), front), 0.035),
    )
    bells = (at(sphere(0.17), x=i * 0.36, y=radius + 0.05) for i in _SIDES)
    feet = (
        capsule((i * 0.3, -radius * 0.8, 0), (i * 0.42, -radius - 0.15, 0), 0.06) for i in _SIDES
    )
    return [
        Part(_facing(cylinder(radius, 0.14, 0.05)), primary),
        Part(_facing(cylinder(radius * 0.84, 0.16, 0.01)), _DIAL),
        Part(hands, secondary),
        Part(union(*bells), primary),
        Part(union(*feet), secondary),
    ]


def camera(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A compact camera; lens barrel and finder in the second colour."""
    return [
        Part(
            box((0.68, 0.42, 0.2), 0.08),
            primary,
            painted=True,
            emblem=Emblem(center_x=-0.46, center_y=0.0, radius=0.2),
        ),
        Part(_facing(cylinder(0.3, 0.16, 0.03), z=0.28), secondary),
        Part(_facing(cylinder(0.2, 0.18, 0.02), z=0.32), _LENS, gloss=1),
        Part(at(box((0.2, 0.08, 0.14), 0.03), y=0.46), secondary),
        Part(at(cylinder(0.08, 0.05), x=0.45, y=0.45), _BUTTON),
    ]


def book(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A closed hardback, standing."""
    depth = rng.uniform(0.1, 0.2)
    hollow = at(box((0.5, 0.72, depth - 0.04), 0), x=0.06)
    emblem = Emblem(center_y=0.1, radius=0.36)
    return [
        Part(cut(box((0.5, 0.68, depth), 0.03), hollow), primary, painted=True, emblem=emblem),
        Part(at(box((0.46, 0.64, depth - 0.03), 0), x=0.01), _PAPER, gloss=0),
    ]


def gift_box(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A gift box; ribbon and bow in the second colour."""
    width = rng.uniform(0.48, 0.56)
    height = width * 0.8
    loop = scaled(torus(0.16, 0.05), (1, 1.4, 1), step=0.7)
    ribbon = union(
        box((width + 0.015, height + 0.015, 0.09), 0.01),
        box((0.09, height + 0.015, width + 0.015), 0.01),
    )
    emblem = Emblem(center_x=-0.28, center_y=0.0, radius=0.18)
    return [
        Part(box((width, height, width), 0.03), primary, painted=True, emblem=emblem),
        Part(ribbon, secondary),
        Part(union(*(at(loop, x=i * 0.17, y=height + 0.14) for i in _SIDES)), secondary),
    ]


def can(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A drinks can with metal ends."""
    radius, height = rng.uniform(0.32, 0.4), rng.uniform(0.55, 0.65)
    end = cylinder(radius * 0.92, 0.05)
    emblem = Emblem(radius=radius * 0.9)
    return [
        Part(
            cylinder(radius, height, 0.05),
            primary,
            painted=True,
            emblem=emblem,
        ),
        Part(union(at(end, y=height), at(end, y=-height)), _METAL, gloss=1),
    ]


def milk_carton(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A gable-top carton; the gable in the second colour."""
    width, height = rng.uniform(0.34, 0.4), rng.uniform(0.5, 0.6)

    def gable(p: Points) -> Distances:
        slopes = (p[1] * 0.7 + np.abs(p[2]) * 0.75) - 0.28
        solid = np.maximum(np.maximum(slopes, -p[1] - 0.05), np.abs(p[0]) - width)
        return np.asarray(solid)

    emblem = Emblem(center_y=-0.15, radius=width * 0.85)
    return [
        Part(at(box((width, height, width), 0.02), y=-0.15), primary, painted=True, emblem=emblem),
        Part(at(gable, y=height - 0.12), secondary),
        Part(at(box((width, 0.08, 0.03), 0.01), y=height + 0.3), secondary),
    ]


def jar(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A storage jar with a lid in the second colour."""
    radius, height = rng.uniform(0.42, 0.5), rng.uniform(0.4, 0.5)
    return [
        Part(
            at(cylinder(radius, height, 0.1), y=-0.12),
            primary,
            painted=True,
            emblem=Emblem(center_y=-0.12, radius=0.36),
        ),
        Part(at(cylinder(radius * 0.86, 0.12, 0.03), y=height - 0.02), secondary),
    ]


def potted_plant(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """Seven green leaves in a patterned pot."""
    leaves: list[Shape] = []
    for k in range(7):
        a = k * 0.9 + rng.uniform(0, 0.4)
        lean = rng.uniform(0.3, 0.8)
        leaf = ellipsoid((0.1, 0.36, 0.05))
        leaves.append(at(leaf, 0.22 * cos(a), 0.45, 0.22 * sin(a), turn_y=-a, turn_z=lean * 0.8))
    emblem = Emblem(center_y=-0.42, radius=0.24)
    pot = at(cone(0.28, 0.4, 0.28), y=-0.4)
    return [Part(pot, primary, painted=True, emblem=emblem), Part(union(*leaves), _LEAF)]
