from __future__ import annotations

import pytest

from catalog_pipeline.generation.layouts import split_layout
from catalog_pipeline.generation.true_sizes import (
    GROUND,
    MAX_HEIGHT,
    MAX_WIDTH,
    MIN_SHARE,
    OTHER_HEIGHT_CM,
    fit_boxes,
    height_of,
)
from catalog_pipeline.records import ProductPhotos, Region


def high(box: Region) -> float:
    return box.bottom - box.top


@pytest.mark.parametrize(
    ("product", "noun", "expected"),
    [
        (ProductPhotos("A", height_cm=12), "backpack", 12),
        (ProductPhotos("A", width_cm=12), "backpack", 24),
        (ProductPhotos("A", height_cm=5, width_cm=12), "backpack", 5),
        (ProductPhotos("A"), "coffee mug", 10),
        (ProductPhotos("A"), "sneakers", 15),
        (ProductPhotos("A"), "toy robot", 24),
        (ProductPhotos("A"), "product", OTHER_HEIGHT_CM),
    ],
)
def test_height_is_the_cards_else_what_the_noun_usually_is(product, noun, expected):
    assert height_of(product, noun, aspect=0.5) == pytest.approx(expected)


def test_products_keep_their_proportions_and_stand_on_one_ground():
    mug, backpack = fit_boxes([10, 30], [1, 0.7], split_layout(2), picture_aspect=1.5)
    assert high(backpack) / high(mug) == pytest.approx(3)
    assert mug.bottom == backpack.bottom == pytest.approx(GROUND)
    assert high(backpack) == pytest.approx(MAX_HEIGHT)
    width_px = (mug.right - mug.left) * 1.5
    assert width_px == pytest.approx(high(mug))


def test_a_wide_product_is_held_by_the_width_of_its_region():
    sofa, lamp = fit_boxes([80, 80], [3, 0.3], split_layout(2), picture_aspect=1.5)
    assert sofa.right - sofa.left == pytest.approx(MAX_WIDTH / 2)
    assert high(sofa) == pytest.approx(high(lamp))


def test_a_ring_beside_a_wardrobe_is_still_seen_and_order_stays():
    heights = [2, 40, 180]
    boxes = fit_boxes(heights, [1, 1, 1], split_layout(3), picture_aspect=2)
    shares = [high(box) / high(boxes[2]) for box in boxes]
    assert shares[0] == pytest.approx(MIN_SHARE)
    assert shares[0] < shares[1] < 1
