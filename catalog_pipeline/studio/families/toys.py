"""Toy cars, robots, teddy bears and rubber ducks."""

from __future__ import annotations

from math import pi

from numpy.random import Generator

from catalog_pipeline.studio.palette import Color
from catalog_pipeline.studio.product import Emblem, Part
from catalog_pipeline.studio.shapes import at, box, capsule, cylinder, ellipsoid, sphere, union

_SIDES = (-1, 1)
_TYRE, _HEADLIGHT, _ROBOT_EYE = (35, 35, 38), (250, 235, 150), (120, 230, 250)
_BUTTON_EYE, _DUCK_EYE = (25, 25, 25), (20, 20, 20)


def toy_car(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A car, nose to the right; the cabin in the second colour."""
    wheel = cylinder(0.2, 0.09, 0.05)
    wheels = (
        at(wheel, x=i * 0.45, y=-0.32, z=k * 0.34, turn_x=pi / 2) for i in _SIDES for k in _SIDES
    )
    headlights = (at(sphere(0.08), x=0.8, y=-0.08, z=k * 0.2) for k in _SIDES)
    emblem = Emblem(center_y=-0.1, radius=0.2)
    return [
        Part(at(box((0.82, 0.2, 0.34), 0.12), y=-0.12), primary, painted=True, emblem=emblem),
        Part(at(box((0.44, 0.2, 0.3), 0.12), x=-0.08, y=0.2), secondary),
        Part(union(*wheels), _TYRE),
        Part(union(*headlights), _HEADLIGHT),
    ]


def toy_robot(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A square robot; head, arms and feet in the second colour."""
    arms = (capsule((i * 0.46, 0.08, 0), (i * 0.56, -0.3, 0.1), 0.08) for i in _SIDES)
    feet = (at(box((0.12, 0.2, 0.14), 0.05), x=i * 0.2, y=-0.6) for i in _SIDES)
    eyes = (at(sphere(0.075), x=i * 0.13, y=0.5, z=0.2) for i in _SIDES)
    emblem = Emblem(center_y=-0.11, radius=0.31)
    return [
        Part(at(box((0.38, 0.34, 0.24), 0.08), y=-0.1), primary, painted=True, emblem=emblem),
        Part(at(box((0.3, 0.22, 0.22), 0.08), y=0.48), secondary),
        Part(union(*eyes), _ROBOT_EYE, gloss=1),
        Part(union(*arms), secondary),
        Part(union(*feet), secondary),
        Part(capsule((0, 0.7, 0), (0, 0.85, 0), 0.03), secondary),
    ]


def teddy_bear(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A sitting bear; the snout in the second colour."""
    body = at(ellipsoid((0.42, 0.46, 0.36)), y=-0.3)
    head = at(sphere(0.36), y=0.36)
    ears = [at(sphere(0.14), x=i * 0.28, y=0.64) for i in _SIDES]
    arms = [capsule((i * 0.38, -0.1, 0.05), (i * 0.58, -0.3, 0.25), 0.13) for i in _SIDES]
    legs = [capsule((i * 0.22, -0.6, 0.1), (i * 0.34, -0.66, 0.45), 0.15) for i in _SIDES]
    eyes = [at(sphere(0.045), x=i * 0.13, y=0.44, z=0.32) for i in _SIDES]
    nose = at(sphere(0.05), y=0.33, z=0.43)
    emblem = Emblem(center_y=-0.25, radius=0.28)
    return [
        Part(union(body, head), primary, painted=True, emblem=emblem),
        Part(union(*ears, *arms, *legs), primary),
        Part(at(ellipsoid((0.16, 0.13, 0.12)), y=0.28, z=0.32), secondary),
        Part(union(*eyes, nose), _BUTTON_EYE, gloss=1),
    ]


def rubber_duck(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A bath duck, bill to the right in the second colour."""
    body = at(ellipsoid((0.6, 0.38, 0.42)), y=-0.3)
    tail = at(ellipsoid((0.25, 0.16, 0.2)), x=-0.55, y=-0.1)
    eyes = (at(sphere(0.05), x=0.5, y=0.4, z=k * 0.2) for k in _SIDES)
    emblem = Emblem(center_y=-0.3, radius=0.28)
    return [
        Part(union(body, tail), primary, painted=True, emblem=emblem),
        Part(at(sphere(0.34), x=0.3, y=0.28), primary),
        Part(at(ellipsoid((0.2, 0.08, 0.15)), x=0.66, y=0.22), secondary),
        Part(union(*eyes), _DUCK_EYE, gloss=1),
    ]
