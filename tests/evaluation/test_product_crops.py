from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import distance_transform_edt, gaussian_filter

from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.product_crops import (
    MAX_HALO,
    alone_on_white,
    color_difference,
    crop_likeness,
    crop_likenesses,
    halo,
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


def composite(left_px: float, *, room=(60, 140, 60), shadow: float = 0.0):
    """A striped ball cut out of a room, ``left_px`` of it left; picture, mask, scene, room."""
    across = np.arange(160)
    radius = np.hypot(across[:, None] - 80, across[None] - 80)
    alpha = np.clip(50.5 - radius, 0, 1)[..., None]
    stripes = np.where((across // 12 % 2)[:, None, None], (200, 40, 30), (170, 60, 40))
    photo = alpha * stripes + (1 - alpha) * np.array(room)
    taken = np.clip(50.5 + left_px - radius, 0, 1)[..., None]
    backdrop = np.broadcast_to((150.0, 165.0, 190.0), photo.shape)
    dark = shadow * np.roll(gaussian_filter(alpha, (6, 6, 0)), 8, axis=0)
    picture = taken * photo + (1 - taken) * backdrop * (1 - dark)
    behind = np.broadcast_to(np.array(room, np.uint8), photo.shape)
    return picture.round().astype(np.uint8), taken[..., 0] >= 0.5, backdrop.astype(np.uint8), behind


@pytest.mark.parametrize("room", [(60, 140, 60), (245, 245, 245), (25, 25, 30)])
def test_a_rim_of_the_old_room_is_a_halo(room):
    clean, two, four = (halo(*composite(left, room=room)) for left in (0, 2, 4))
    assert clean < 1
    assert MAX_HALO < two < four


def test_a_contact_shadow_is_none():
    assert halo(*composite(0, shadow=0.6)) < 1


def test_an_outline_in_another_colour_than_the_room_is_none():
    picture, inside, backdrop, _ = composite(4, room=(20, 20, 160))
    assert halo(picture, inside, backdrop, np.full_like(picture, (20, 20, 160))) > MAX_HALO
    assert halo(picture, inside, backdrop, np.full_like(picture, (230, 230, 210))) < 1


def test_halos_of_exact_cut_outs_in_a_photographed_room(test_data):
    views = sorted((test_data / "household_catalog" / "views").glob("*.webp"))[::199]
    room_path = test_data / "photos" / "backpack_dog" / "00.jpg"
    room = np.asarray(Image.open(room_path).convert("RGB").resize((320, 320))).astype(float)
    backdrop = np.full((320, 320, 3), (170, 160, 150), np.uint8)
    judged = []
    for view in views:
        rgba = np.asarray(Image.open(view).convert("RGBA").resize((288, 288))).astype(float)
        rgba = np.pad(rgba, ((16, 16), (16, 16), (0, 0)))
        alpha = rgba[..., 3:] / 255
        photo = rgba[..., :3] * alpha + room * (1 - alpha)
        away = distance_transform_edt(alpha[..., 0] < 0.5)[..., None]
        grown = np.maximum(alpha, away <= 3)
        pair = [
            halo(
                (c * a + backdrop * (1 - a)).astype(np.uint8),
                a[..., 0] >= 0.5,
                backdrop,
                room.astype(np.uint8),
            )
            for c, a in ((rgba[..., :3], alpha), (photo, grown))
        ]
        judged.append(pair)
    clean, left = np.array(judged).T
    assert np.mean(clean < MAX_HALO) >= 0.9
    assert np.mean(left > MAX_HALO) >= 0.9
