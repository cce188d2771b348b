"""Mugs, bottles, vases, bowls and teapots."""

from __future__ import annotations

from math import pi

from numpy.random import Generator

from catalog_pipeline.studio.palette import Color
from catalog_pipeline.studio.product import Emblem, Part
from catalog_pipeline.studio.shapes import (
    at,
    below,
    capsule,
    cone,
    cut,
    cylinder,
    ellipsoid,
    intersection,
    sphere,
    torus,
)


def mug(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A straight cup with a ring handle in the second colour."""
    radius, height = rng.uniform(0.42, 0.55), rng.uniform(0.45, 0.65)
    wall = 0.05
    body = cut(cylinder(radius, height), at(cylinder(radius - wall, height), y=2 * wall))
    handle = at(torus(height * 0.52, 0.07), x=radius + 0.05)
    emblem = Emblem(center_y=0.0, radius=min(0.36, height * 0.72), around=4)
    return [
        Part(body, primary, painted=True, emblem=emblem),
        Part(cut(handle, cylinder(radius - 0.01, height)), secondary),
    ]


def bottle(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A bottle with a neck and a cap in the second colour."""
    radius, height = rng.uniform(0.26, 0.36), rng.uniform(0.5, 0.6)
    return [
        Part(
            at(cylinder(radius, height, 0.06), y=-0.25),
            primary,
            painted=True,
            emblem=Emblem(center_y=-0.25, radius=radius * 0.9),
        ),
        Part(at(cone(radius - 0.04, 0.1, 0.14), y=height - 0.25 + 0.13), primary),
        Part(at(cylinder(0.1, 0.14), y=height + 0.12), primary),
        Part(at(cylinder(0.13, 0.08), y=height + 0.26), secondary),
    ]


def vase(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """An egg-shaped vase with a flared neck and a rim in the second colour."""
    width, height = rng.uniform(0.38, 0.52), rng.uniform(0.5, 0.62)
    neck = rng.uniform(0.14, 0.22)
    return [
        Part(
            at(ellipsoid((width, height, width)), y=-0.2),
            primary,
            painted=True,
            emblem=Emblem(center_y=-0.2, radius=width * 0.75),
        ),
        Part(at(cone(neck, neck * 1.2, 0.2), y=height - 0.1), primary),
        Part(at(torus(neck * 1.25, 0.05), y=height + 0.1, turn_x=pi / 2), secondary),
    ]


def bowl(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A half-sphere bowl on a foot in the second colour."""
    radius = rng.uniform(0.65, 0.8)
    shell = cut(intersection(sphere(radius), below(0.0)), sphere(radius - 0.07))
    return [
        Part(
            at(shell, y=0.3),
            primary,
            painted=True,
            emblem=Emblem(center_y=0.3 - radius * 0.45, radius=radius * 0.36, around=5),
        ),
        Part(at(cylinder(0.3, 0.06), y=0.3 - radius), secondary),
    ]


def teapot(rng: Generator, primary: Color, secondary: Color) -> list[Part]:
    """A round teapot; handle, lid and knob in the second colour."""
    width, height = rng.uniform(0.5, 0.58), rng.uniform(0.4, 0.5)
    body = ellipsoid((width, height, width))
    return [
        Part(body, primary, painted=True, emblem=Emblem(radius=height * 0.85)),
        Part(capsule((width * 0.8, -0.1, 0), (width + 0.35, 0.3, 0), 0.07), primary),
        Part(cut(at(torus(0.28, 0.055), x=-width - 0.02, y=0.05), body), secondary),
        Part(at(ellipsoid((0.26, 0.08, 0.26)), y=height), secondary),
        Part(at(sphere(0.08), y=height + 0.12), secondary),
    ]
