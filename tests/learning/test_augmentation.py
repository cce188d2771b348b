from __future__ import annotations

import numpy as np

from catalog_pipeline.learning.augmentation import (
    Backdrop,
    cut_out,
    framed_photo,
    half_scene,
    make_views,
    mask_box,
    paste,
    placed_cutout,
)
from catalog_pipeline.records import Photo

SIDE = 32
DROP = Backdrop(np.zeros((SIDE, SIDE, 3), np.uint8), "in the snow")


def photo(height: int = 60, width: int = 90, *, masked: bool = True) -> Photo:
    """A red box ``[20:50, 30:60]`` on gray."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[20:50, 30:60] = (255, 0, 0)
    mask = np.zeros((height, width), np.uint8)
    mask[20:50, 30:60] = 255
    return Photo("a.jpg", "0", pixels, mask if masked else None)


def is_red(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] > 200) & (pixels[..., 1] < 60)


def test_cut_out_is_the_box_and_nothing_else():
    cutout = cut_out(photo())
    assert cutout.rgba.shape == (30, 30, 4)
    assert is_red(cutout.rgba).all()
    assert cut_out(photo(masked=False)) is None
    assert mask_box(np.zeros((4, 4), np.uint8)) is None


def test_framed_photos_keep_the_whole_product():
    for seed in range(20):
        view = framed_photo(photo(), (SIDE, SIDE), np.random.default_rng(seed))
        assert view.pixels.shape == (SIDE, SIDE, 3)
        red, scale = is_red(view.pixels).sum(), SIDE / 60
        assert red >= 0.8 * (30 * scale) ** 2
        assert view.weight[is_red(view.pixels)].mean() > 0.9
        assert view.weight.min() < 0.2
        assert view.backdrop_prompt is None
        assert "{concept}" in view.instance_prompt


def test_a_product_longer_than_the_short_side_still_gives_views():
    tall = Photo("a", "0", np.zeros((200, 40, 3), np.uint8), np.full((200, 40), 255, np.uint8))
    assert framed_photo(tall, (SIDE, SIDE), np.random.default_rng(0)).pixels.shape == (
        SIDE,
        SIDE,
        3,
    )


def test_placed_cutouts_stand_inside_a_named_scene():
    for seed in range(20):
        view = placed_cutout(cut_out(photo()), DROP, SIDE, np.random.default_rng(seed))
        rows, columns = np.nonzero(is_red(view.pixels))
        assert 0.4 * SIDE < np.ptp(rows) + 1 < 0.9 * SIDE
        assert columns.min() > 0
        assert columns.max() < SIDE - 1
        assert view.instance_prompt.endswith("in the snow")
        # The base knows its own scene: the product counts for most of the loss.
        assert view.weight[is_red(view.pixels)].min() > 0.9
        assert view.weight[0].max() == np.float32(0.2)


def test_half_scenes_keep_to_their_region():
    sides = set()
    for seed in range(20):
        view = half_scene(cut_out(photo()), DROP, SIDE, np.random.default_rng(seed))
        assert not (is_red(view.pixels) & (view.region == 0)).any()
        assert view.region.sum() == SIDE * SIDE / 2
        assert view.backdrop_prompt == "an empty scene in the snow"
        sides.add(bool(view.region[0, 0]))
    assert sides == {True, False}


def test_paste_reports_the_opacity_it_painted():
    pixels, opacity = paste(cut_out(photo()), DROP.pixels, height_share=0.5, centre=0.5, bottom=0.9)
    assert np.array_equal(is_red(pixels), opacity > 0.8)


def test_views_are_seeded_and_fall_back_without_masks_or_scenes():
    def texts(photos, drops):
        views = make_views(
            photos, drops, side_px=SIDE, views_per_photo=5, rng=np.random.default_rng(3)
        )
        return [view.instance_prompt for view in views], views

    first, views = texts([photo()], [DROP])
    assert first == texts([photo()], [DROP])[0]
    assert sum(view.backdrop_prompt is not None for view in views) == 1
    assert sum("snow" in prompt for prompt in first) == 3
    for photos, drops in (([photo(masked=False)], [DROP]), ([photo()], [])):
        assert not any("snow" in prompt for prompt in texts(photos, drops)[0])


def test_photos_without_a_mask_are_left_out_where_two_others_have_one():
    plain = photo(masked=False)
    plain.pixels[:] = (0, 255, 0)

    def greens(photos: list[Photo]) -> int:
        rng = np.random.default_rng(0)
        views = make_views(photos, [DROP], side_px=SIDE, views_per_photo=5, rng=rng)
        return sum(bool((view.pixels[..., 1] > 200).all()) for view in views)

    assert greens([photo(), plain]) == 5
    assert greens([photo(), plain, photo()]) == 0
