from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.product_crops import (
    alone_on_white,
    color_difference,
    crop_likeness,
    crop_likenesses,
)
from tests.evaluation.drawn import BACKGROUNDS, photo_of


def masked(product: str, index: int = 0):
    """A drawn photo and the exact mask of its product."""
    photo = photo_of(product, index)
    ground = np.array(Image.new("RGB", (1, 1), BACKGROUNDS[index % 3]))[0, 0]
    return photo, (photo != ground).any(-1)


def test_two_greys_differ_by_their_lightness():
    # Two greys of sRGB differ in L* alone: 119 is 50.03, 128 is 53.59; S_L is 1 there.
    picture = np.full((20, 20, 3), 119, np.uint8)
    other = np.full((20, 20, 3), 128, np.uint8)
    inside = np.ones((20, 20), bool)
    assert color_difference(picture, other, inside) == pytest.approx(3.5, abs=0.1)
    assert color_difference(picture, picture, inside) == 0


def test_scene_and_a_shift_of_a_pixel_do_not_count_but_a_cast_does():
    photo, inside = masked("crate")
    moved = np.roll(photo, 1, axis=1)
    assert color_difference(moved, photo, inside) < 1
    scene = np.where(inside[..., None], photo, np.uint8(0))
    assert color_difference(scene, photo, inside) == 0
    cast = np.clip(photo + np.array((40, 0, -40)), 0, 255).astype(np.uint8)
    assert color_difference(cast, photo, inside) > 8


def test_an_empty_mask_and_other_sizes_are_refused():
    photo, inside = masked("ball")
    with pytest.raises(ValueError, match="empty mask"):
        color_difference(photo, photo, np.zeros_like(inside))
    with pytest.raises(ValueError, match="one size"):
        alone_on_white(photo, inside[1:])
    with pytest.raises(ValueError, match="1 crops and 0 references"):
        crop_likenesses(open_encoder(), [(photo, inside)], [])


def test_likeness_sees_the_product_alone_at_one_scale():
    encoder = open_encoder()
    photo, inside = masked("crate")
    large = np.asarray(Image.fromarray(photo).resize((320, 320), Image.Resampling.BICUBIC))
    inside_large = np.asarray(Image.fromarray(inside).resize((320, 320)))
    elsewhere = np.where(inside[..., None], photo, np.uint8(30))
    assert crop_likeness(encoder, elsewhere, inside, photo, inside) == pytest.approx(1, abs=1e-5)
    assert crop_likeness(encoder, large, inside_large, photo, inside) > 0.9
    blurred = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(8)))
    other = masked("tent")
    worse, different = crop_likenesses(
        encoder, [(blurred, inside), other], [(photo, inside), (photo, inside)]
    )
    assert different < 0.6
    assert worse < 0.9


def test_alone_on_white_is_square_and_centred():
    pixels = np.zeros((40, 60, 3), np.uint8)
    inside = np.zeros((40, 60), bool)
    inside[10:20, 5:55] = True
    square = alone_on_white(pixels, inside)
    assert square.shape == (56, 56, 3)
    rows, columns = np.nonzero(square[..., 0] == 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (23, 32, 3, 52)
