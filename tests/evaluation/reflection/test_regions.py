"""Pieces of a mask and the regions that they stand in."""

from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.evaluation.reflection.regions import (
    close_box,
    connected_pieces,
    crop,
    products_by_region,
    region_box,
)
from catalog_pipeline.records import Region

HALVES = (Region(0, 0, 0.5, 1), Region(0.5, 0, 1, 1))


def drawn(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """White boxes (left, top, right, bottom) on a black mask of 128 px."""
    mask = np.zeros((128, 128), dtype=np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 255
    return mask


def test_each_piece_goes_to_the_region_that_holds_it():
    left, right = products_by_region(drawn((10, 40, 40, 100), (80, 50, 120, 90)), HALVES)
    assert left.pieces == ((10, 40, 40, 100),)
    assert right.pieces == ((80, 50, 120, 90),)
    assert left.inside.sum() == 30 * 60
    assert not left.inside[:, 64:].any()


def test_a_piece_that_reaches_a_little_into_the_neighbour_stays_whole():
    left, right = products_by_region(drawn((10, 40, 72, 100)), HALVES)
    assert left.box == (10, 40, 72, 100)
    assert right.empty
    assert right.box == (64, 0, 128, 128)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((20, 20, 64, 110), (64, 60, 110, 110)),
        ((4, 40, 34, 100), (52, 40, 92, 100)),
    ],
    ids=[
        "a tall and a low one that touch: the border is as long as the low one only",
        "one off its place is whole where the other stands elsewhere",
    ],
)
def test_two_products_are_told_apart(first, second):
    left, right = products_by_region(drawn(first, second), HALVES)
    assert left.pieces == (first,)
    assert right.pieces == (second,)
    assert not left.taken
    assert not right.taken


@pytest.mark.parametrize(
    "boxes",
    [
        [(16, 40, 110, 100)],
        [(40, 40, 64, 100), (64, 70, 80, 100)],
    ],
    ids=["as long at the border as anywhere", "narrow"],
)
def test_what_may_have_grown_together_is_the_product_of_neither_region(boxes):
    left, right = products_by_region(drawn(*boxes), HALVES)
    assert left.empty
    assert right.empty
    assert left.taken
    assert right.taken


def test_halves_above_each_other_are_told_apart_by_height():
    stacked = (Region(0, 0, 1, 0.5), Region(0, 0.5, 1, 1))
    upper, lower = products_by_region(drawn((40, 44, 100, 90)), stacked)
    assert upper.taken
    assert lower.taken
    upper, lower = products_by_region(drawn((40, 4, 70, 64), (50, 64, 110, 124)), stacked)
    assert upper.pieces == ((40, 4, 70, 64),)
    assert lower.pieces == ((50, 64, 110, 124),)


def test_three_that_touch_are_cut_at_both_borders():
    thirds = tuple(Region(i / 3, 0, (i + 1) / 3, 1) for i in range(3))
    found = products_by_region(drawn((10, 60, 120, 100)), thirds)
    assert [len(products.pieces) for products in found] == [1, 1, 1]


def test_where_regions_overlap_the_nearer_centre_counts():
    crossed = (Region(0, 0, 0.7, 1), Region(0.3, 0, 1, 1))
    left, right = products_by_region(drawn((10, 40, 56, 100), (74, 40, 120, 100)), crossed)
    assert left.pieces == ((10, 40, 56, 100),)
    assert right.pieces == ((74, 40, 120, 100),)


def test_stacked_pieces_are_one_product_and_pieces_side_by_side_are_two():
    lamp = ((20, 20, 50, 50), (24, 60, 46, 90))
    left, _ = products_by_region(drawn(*lamp), HALVES)
    assert left.pieces == ((20, 20, 50, 90),)
    pair = ((4, 40, 26, 80), (34, 40, 58, 90))
    left, _ = products_by_region(drawn(*pair), HALVES)
    assert sorted(left.pieces) == sorted(pair)
    assert left.box == (4, 40, 58, 90)


def test_crumbs_are_no_products():
    left, right = products_by_region(drawn((10, 10, 16, 16), (100, 30, 104, 34)), HALVES)
    assert left.empty
    assert right.empty


def test_regions_need_not_cover_the_picture():
    corner = (Region(0, 0, 0.25, 0.25), Region(0.75, 0.75, 1, 1))
    first, second = products_by_region(drawn((40, 40, 60, 60)), corner)
    assert first.pieces == ((40, 40, 60, 60),)
    assert second.empty


@pytest.mark.parametrize("count", [0, 1, 3])
def test_connected_pieces_are_disjoint_and_complete(count):
    salient = np.zeros((20, 20), dtype=bool)
    for index in range(count):
        salient[2:8, 6 * index + 1 : 6 * index + 4] = True
    pieces = connected_pieces(salient)
    assert len(pieces) == count
    np.testing.assert_array_equal(sum((piece.astype(int) for piece in pieces), 0), salient)


def test_pieces_that_touch_at_a_corner_are_two():
    assert len(connected_pieces(np.eye(3, dtype=bool))) == 3


def test_the_close_box_is_square_and_keeps_the_neighbour_out():
    left, _ = products_by_region(drawn((10, 40, 40, 70), (70, 40, 120, 90)), HALVES)
    box = close_box(left, HALVES[0], 128, 128)
    assert box == (6, 36, 44, 74)
    picture = np.zeros((128, 128, 3), dtype=np.uint8)
    assert crop(picture, box).shape == (38, 38, 3)
    tall, _ = products_by_region(drawn((20, 4, 60, 124)), HALVES)
    assert close_box(tall, HALVES[0], 128, 128) == (0, 0, 64, 128)


def test_a_tiny_region_has_pixels():
    assert region_box(Region(0.5, 0.5, 0.501, 0.501), 64, 64) == (32, 32, 33, 33)
