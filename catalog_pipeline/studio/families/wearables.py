"""Bags, shoes, hats and headphones."""

from __future__ import annotations

from math import pi

from numpy.random import Generator

from catalog_pipeline.studio.palette import Color
from catalog_pipeline.studio.product import Emblem, Part
from catalog_pipeline.studio.shapes import (
    above,
    at,
    box,
    cylinder,
    ellipsoid,
    intersection,
    scaled,
    torus,
    union,
)

_SIDES = (-1, 1)


def backpack(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A school backpack; pocket, loop and straps in the second colour."""
    width, height = rng.uniform(0.45, 0.55), rng.uniform(0.6, 0.7)
    pocket = box((width * 0.72, height * 0.36, 0.14), 0.1)
    strap = box((0.07, 0.4, 0.08), 0.05)
    return [
        Part(
            box((width, height, 0.28), 0.2),
            primary,
            painted=True,
            emblem=Emblem(center_y=height * 0.4, radius=width * 0.62),
        ),
        Part(at(pocket, y=-height * 0.38, z=0.3), secondary),
        Part(at(torus(0.14, 0.04), y=height + 0.03), secondary),
        Part(union(*(at(strap, x=i * width * 0.95, z=-0.05) for i in _SIDES)), secondary),
    ]


def handbag(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A handbag; the arched handle and the clasp in the second colour."""
    width, height = rng.uniform(0.55, 0.68), rng.uniform(0.36, 0.44)
    handle = scaled(torus(0.36, 0.045), (1, 0.8, 1), step=0.8)
    return [
        Part(
            at(box((width, height, 0.24), 0.1), y=-0.25),
            primary,
            painted=True,
            emblem=Emblem(center_y=-0.38, radius=height * 0.58),
        ),
        Part(at(handle, y=height - 0.3), secondary),
        Part(at(box((0.1, 0.07, 0.04), 0.03), y=height - 0.45, z=0.25), secondary),
    ]


def sneaker(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A sneaker, toe to the right; sole, collar and laces in the second colour."""
    toe = at(ellipsoid((0.5, 0.26, 0.25)), x=0.28, y=-0.25)
    heel = at(ellipsoid((0.42, 0.42, 0.25)), x=-0.38, y=-0.1)
    lace = box((0.03, 0.03, 0.18), 0.02)
    laces = (at(lace, x=0.02 + 0.14 * i, y=0.1 - 0.075 * i, turn_z=0.35) for i in range(3))
    emblem = Emblem(center_x=-0.38, center_y=-0.08, radius=0.3)
    return [
        Part(at(box((0.8, 0.09, 0.27), 0.08), y=-0.42), secondary),
        Part(union(toe, heel), primary, painted=True, emblem=emblem),
        Part(at(cylinder(0.2, 0.1, 0.05), x=-0.42, y=0.28), secondary),
        Part(union(*laces), secondary),
    ]


def boot(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A rain boot, toe to the right; sole and cuff in the second colour."""
    foot = at(ellipsoid((0.52, 0.24, 0.24)), x=0.25, y=-0.5)
    shaft = at(cylinder(0.27, 0.55, 0.08), x=-0.18, y=-0.02)
    emblem = Emblem(center_x=-0.18, center_y=0.1, radius=0.24)
    return [
        Part(union(foot, shaft), primary, painted=True, emblem=emblem),
        Part(at(box((0.56, 0.07, 0.26), 0.06), x=0.16, y=-0.72), secondary),
        Part(at(cylinder(0.3, 0.09, 0.06), x=-0.18, y=0.52), secondary),
    ]


def hat(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A round hat with a brim and a band in the second colour."""
    radius = rng.uniform(0.4, 0.48)
    return [
        Part(
            at(cylinder(radius, 0.3, 0.14), y=0.1),
            primary,
            painted=True,
            emblem=Emblem(center_y=0.16, radius=0.18),
        ),
        Part(at(cylinder(radius + 0.36, 0.04, 0.03), y=-0.2), primary),
        Part(at(cylinder(radius + 0.02, 0.07), y=-0.1), secondary),
    ]


def headphones(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """Over-ear headphones; the band in the second colour."""
    band = intersection(torus(0.58, 0.06), above(-0.05))
    cup = cylinder(0.28, 0.14, 0.08)
    cups = union(*(at(cup, x=i * 0.58, y=-0.2, turn_z=pi / 2) for i in _SIDES))
    emblem = Emblem(center_y=-0.2, radius=0.22, face="side")
    return [Part(band, secondary), Part(cups, primary, painted=True, emblem=emblem)]
