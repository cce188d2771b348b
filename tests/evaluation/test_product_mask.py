from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.evaluation.product_mask import (
    MAX_ARM_SHARE,
    ProductMasker,
    arm_share,
    judged,
)
from tests.evaluation.drawn import photo_of


def test_finds_a_drawn_ball_where_it_is(masker):
    photo = photo_of("ball", side=200)[:, :180]
    found = masker.mask(photo)
    assert found.usable, found.reason
    assert found.mask.shape == (200, 180)
    assert found.mask.dtype == np.uint8
    inside = found.mask >= 128
    truth = np.zeros((200, 180), dtype=bool)
    rows, columns = np.mgrid[:200, :180]
    truth[(rows - 100) ** 2 + (columns - 100) ** 2 <= 30**2] = True
    assert (inside & truth).sum() / (inside | truth).sum() > 0.8


def test_a_mask_is_deterministic(masker, masks_are_estimated_once):
    for photo in (photo_of("crate"), photo_of("tent", 1)[:120]):
        first = masker.mask(photo).mask
        masks_are_estimated_once.pop((photo.shape, photo.tobytes()))
        np.testing.assert_array_equal(masker.mask(photo).mask, first)


def test_real_products_are_found(masker, test_data: Path):
    for product in ("duck_toy", "candle"):
        path = sorted((test_data / "photos" / product).glob("*.jpg"))[1]
        found = masker.mask(np.asarray(Image.open(path).convert("RGB")))
        assert found.usable, (product, found.reason)
        assert 0.05 < found.area < 0.4


def mask(*boxes: tuple[int, int, int, int], value: int = 255) -> np.ndarray:
    drawn = np.zeros((100, 100), dtype=np.uint8)
    for top, bottom, left, right in boxes:
        drawn[top:bottom, left:right] = value
    return drawn


@pytest.mark.parametrize(
    ("drawn", "reason"),
    [
        (mask((20, 70, 30, 80)), ""),
        (mask(), "covers 0.0% of the photo; expected at least 3%"),
        (mask((0, 10, 0, 10)), "covers 1.0% of the photo; expected at least 3%"),
        (mask((0, 98, 0, 98)), "expected at most 90%"),
        (mask((0, 40, 0, 40), (60, 100, 60, 100)), "is in pieces, the largest 50%"),
        (mask((20, 70, 30, 80)) + mask((70, 100, 30, 80), value=100), "is undecided on 60%"),
    ],
)
def test_the_verdict_says_what_is_wrong(drawn, reason):
    verdict = judged(drawn)
    assert verdict.usable == (reason == "")
    assert reason in verdict.reason


def test_one_colour_has_no_product(masker):
    assert not masker.mask(np.full((64, 64, 3), 128, dtype=np.uint8)).usable


def test_a_black_photo_is_no_crash(masker):
    assert not masker.mask(np.zeros((40, 60, 3), dtype=np.uint8)).usable


SKIN, BLUE = (200, 150, 120), (30, 60, 200)


def held_box(arm_rows: slice, box_rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """A blue box on green, an arm of skin below it, and a mask of both."""
    pixels = np.full((120, 90, 3), (40, 140, 40), np.uint8)
    mask = np.zeros((120, 90), np.uint8)
    for rows, color in ((arm_rows, SKIN), (box_rows, BLUE)):
        pixels[rows, 30:60] = color
        mask[rows, 30:60] = 255
    return pixels, mask


def test_an_arm_that_comes_in_over_the_edge_is_measured() -> None:
    pixels, mask = held_box(slice(60, 120), slice(30, 60))
    assert arm_share(pixels, mask) == pytest.approx(2 / 3, abs=0.03)


def test_skin_coloured_things_that_stand_free_are_no_arms() -> None:
    pixels, mask = held_box(slice(60, 110), slice(30, 60))
    assert arm_share(pixels, mask) == 0


def test_other_colours_on_the_edge_are_no_arms_and_an_empty_mask_has_none() -> None:
    pixels, mask = held_box(slice(60, 60), slice(30, 120))
    assert arm_share(pixels, mask) == 0
    assert arm_share(pixels, np.zeros_like(mask)) == 0


@pytest.mark.slow
def test_hands_are_told_from_products_in_real_photos(test_data) -> None:
    """Held cartons: where the mask is the arm, and where it is the carton; a plush bear."""
    masker = ProductMasker()
    folder = test_data / "photos"

    def shares(product: str) -> list[float]:
        found = []
        for path in sorted((folder / product).glob("*.jpg")):
            with Image.open(path) as image:
                image.thumbnail((512, 512))
                pixels = np.asarray(image.convert("RGB"))
            mask = masker.mask(pixels)
            if mask.usable:
                found.append(arm_share(pixels, mask.mask))
        return found

    held = shares("grocery_oatly_natural_oatghurt")
    assert sum(share > MAX_ARM_SHARE for share in held) >= 3
    assert sum(share == 0 for share in held) >= 2
    assert max(shares("bear_plushie")) == 0
