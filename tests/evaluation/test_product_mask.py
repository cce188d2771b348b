from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.evaluation.product_mask import ProductMasker, judged
from tests.evaluation.drawn import photo_of


@pytest.fixture(scope="module")
def masker() -> ProductMasker:
    return ProductMasker()


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


def test_batch_equals_single_and_is_deterministic(masker):
    photos = [photo_of("crate"), photo_of("tent", 1)[:120]]
    together = masker.masks(photos)
    for one, photo in zip(together, photos, strict=True):
        np.testing.assert_array_equal(one.mask, masker.mask(photo).mask)


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
