from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.evaluation.hands import MAX_ARM_SHARE, arm_share
from catalog_pipeline.evaluation.product_mask import ProductMasker

SKIN, BLUE = (200, 150, 120), (30, 60, 200)


def photo_of(arm_rows: slice, box_rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """A blue box on green, an arm of skin below it, and a mask of both."""
    pixels = np.full((120, 90, 3), (40, 140, 40), np.uint8)
    mask = np.zeros((120, 90), np.uint8)
    for rows, color in ((arm_rows, SKIN), (box_rows, BLUE)):
        pixels[rows, 30:60] = color
        mask[rows, 30:60] = 255
    return pixels, mask


def test_an_arm_that_comes_in_over_the_edge_is_measured() -> None:
    pixels, mask = photo_of(slice(60, 120), slice(30, 60))
    assert arm_share(pixels, mask) == pytest.approx(2 / 3, abs=0.03)


def test_skin_coloured_things_that_stand_free_are_no_arms() -> None:
    pixels, mask = photo_of(slice(60, 110), slice(30, 60))
    assert arm_share(pixels, mask) == 0


def test_other_colours_on_the_edge_are_no_arms_and_an_empty_mask_has_none() -> None:
    pixels, mask = photo_of(slice(60, 60), slice(30, 120))
    assert arm_share(pixels, mask) == 0
    assert arm_share(pixels, np.zeros_like(mask)) == 0


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
