from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.studio import shapes
from catalog_pipeline.studio.shapes import Points, Shape

_SHAPES: dict[str, Shape] = {
    "sphere": shapes.sphere(0.5),
    "ellipsoid": shapes.ellipsoid((0.3, 0.5, 0.2)),
    "box": shapes.box((0.3, 0.5, 0.2)),
    "cylinder": shapes.cylinder(0.3, 0.5),
    "cone": shapes.cone(0.4, 0.2, 0.5),
    "torus": shapes.torus(0.5, 0.1),
    "capsule": shapes.capsule((0, -0.4, 0), (0.1, 0.4, 0), 0.2),
}


def _points(*rows: tuple[float, float, float]) -> Points:
    return np.array(rows, dtype=np.float64).T


def _cloud(count: int = 4000) -> Points:
    return np.random.default_rng(0).uniform(-1, 1, (3, count))


def test_distances_at_known_points() -> None:
    at_known = {
        "sphere": (_points((0, 0, 0), (1, 0, 0)), [-0.5, 0.5]),
        "box": (_points((0, 0, 0), (1, 0, 0), (0, 0.6, 0)), [-0.2, 0.7, 0.1]),
        "cylinder": (_points((1, 0, 0), (0, 1, 0)), [0.7, 0.5]),
        "torus": (_points((0.5, 0, 0), (0, 0, 0)), [-0.1, 0.4]),
        "capsule": (_points((0, -1, 0)), [0.4]),
    }
    for name, (points, expected) in at_known.items():
        np.testing.assert_allclose(_SHAPES[name](points), expected, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", sorted(set(_SHAPES) - {"ellipsoid"}))
def test_no_distance_grows_faster_than_the_way(name: str) -> None:
    # otherwise sphere tracing could step through the surface
    points = _cloud()
    step = np.random.default_rng(1).normal(0, 0.01, points.shape)
    change = np.abs(_SHAPES[name](points + step) - _SHAPES[name](points))
    assert (change <= np.linalg.norm(step, axis=0) * (1 + 1e-6)).all()


def test_an_ellipsoid_is_zero_on_its_surface_and_signed_around_it() -> None:
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(3, 500))
    directions /= np.linalg.norm(directions, axis=0)
    surface = directions * np.array([[0.3], [0.5], [0.2]])
    ellipsoid = _SHAPES["ellipsoid"]
    np.testing.assert_allclose(ellipsoid(surface), 0, atol=1e-9)
    assert (ellipsoid(surface * 1.1) > 0).all()
    assert (ellipsoid(surface * 0.9) < 0).all()


def test_combinations_are_set_operations() -> None:
    a, b = shapes.sphere(0.5), shapes.at(shapes.box((0.4, 0.4, 0.4)), x=0.3)
    points = _cloud()
    in_a, in_b = a(points) < 0, b(points) < 0
    np.testing.assert_array_equal(shapes.union(a, b)(points) < 0, in_a | in_b)
    np.testing.assert_array_equal(shapes.intersection(a, b)(points) < 0, in_a & in_b)
    np.testing.assert_array_equal(shapes.cut(a, b)(points) < 0, in_a & ~in_b)
    np.testing.assert_array_equal(shapes.below(0.2)(points) < 0, points[1] < 0.2)
    np.testing.assert_array_equal(shapes.above(0.2)(points) < 0, points[1] > 0.2)


def test_turning_keeps_lengths_and_a_full_turn_changes_nothing() -> None:
    points = _cloud()
    turned = shapes.turned(points, x=0.3, y=-1.1, z=2.0)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=0), np.linalg.norm(points, axis=0))
    full = 2 * np.pi
    np.testing.assert_allclose(shapes.turned(points, full, full, full), points, atol=1e-9)


def test_a_moved_shape_is_found_where_it_was_put() -> None:
    moved = shapes.at(shapes.sphere(0.2), x=1, y=-2, z=3)
    np.testing.assert_allclose(moved(_points((1, -2, 3))), [-0.2])
