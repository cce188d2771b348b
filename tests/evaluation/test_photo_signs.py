"""Figures of one photo, by the real models, on small drawn pictures."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageFilter

from catalog_pipeline.evaluation.features import FeatureEncoder, open_encoder
from catalog_pipeline.evaluation.photo_curation import hash_difference
from catalog_pipeline.evaluation.photo_signs import PhotoSigns, read_signs
from catalog_pipeline.records import Photo, Pixels
from tests.evaluation.drawn import photo_of


@pytest.fixture(scope="module")
def encoder() -> FeatureEncoder:
    return open_encoder()


@pytest.fixture
def read(masker, encoder):
    def signs(pixels: Pixels, mask: np.ndarray | None = None) -> PhotoSigns:
        return read_signs(Photo("crate/0.png", "", pixels, mask), masker, encoder)

    return signs


CRATE = partial(photo_of, "crate", side=240)


def test_the_same_picture_saved_again_or_cropped_is_near_and_another_one_is_not(read) -> None:
    def textured(seed: int) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((240, 240), Image.Resampling.BICUBIC)

    whole = read(np.asarray(textured(0)))
    small = read(np.asarray(textured(0).resize((150, 150))))
    cropped = read(np.asarray(textured(0).crop((2, 4, 237, 239))))
    assert hash_difference(whole, small) <= 0.03
    assert hash_difference(whole, cropped) <= 0.06
    assert hash_difference(whole, read(np.asarray(textured(1)))) > 0.3
    assert whole.pixels == 240 * 240
    assert small.pixels == 150 * 150


def test_blur_light_and_features_follow_the_picture(read) -> None:
    sharp = read(CRATE(2))
    soft = read(np.asarray(Image.fromarray(CRATE(2)).filter(ImageFilter.GaussianBlur(6))))
    dark = read(CRATE(2) // 8)
    assert soft.blur > 0.75 > 0.6 > sharp.blur
    assert dark.brightest < 0.15 < sharp.brightest
    assert dark.contrast < sharp.contrast
    assert sharp.seen
    other = read(photo_of("ball", 2, 240))
    same = read(CRATE(1))
    assert sharp.product @ same.product > sharp.product @ other.product


def test_white_around_a_product_is_not_burnt_out_and_a_white_product_is(read) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[30:70, 30:70] = 255
    page = np.full((96, 96, 3), 255, np.uint8)
    blue = page.copy()
    blue[mask > 0] = (20, 60, 180)
    assert read(blue, mask).burnt_out == 0
    assert read(page, mask).burnt_out == 1


def test_of_a_cut_out_the_outline_is_known(read) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[20:, 30:70] = 255
    found = read(np.full((96, 96, 3), 90, np.uint8), mask)
    assert found.seen
    assert (found.cut, found.arm, found.second) == (0, 0, 0)


def test_a_second_thing_and_a_cut_off_one_are_seen(read) -> None:
    two = np.full((200, 320, 3), 225, np.uint8)
    two[60:160, 30:130] = CRATE(0)[84:156, 84:156].repeat(2, 0).repeat(2, 1)[:100, :100]
    two[60:160, 190:290] = two[60:160, 30:130]
    assert read(two).second > 0.5
    half = np.ascontiguousarray(CRATE(2)[:, 120:])
    assert read(half).cut > 0.5 > read(CRATE(2)).cut
