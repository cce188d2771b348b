from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.errors import ConfigurationError, GenerationError
from catalog_pipeline.studio.backgrounds import BACKGROUNDS, paint_background
from catalog_pipeline.studio.captions import caption, noun_phrase, with_article
from catalog_pipeline.studio.scenes import Placement, compose, draw_placements
from catalog_pipeline.studio.sprites import Sprite, SpriteLabel, product_sprites

_PAIR = (Placement(0.5, 0.3, 0.9), Placement(0.45, 0.62, 0.95, flipped=True))


@pytest.fixture(scope="module")
def sprites() -> list[Sprite]:
    return [sprite for seed in (0, 10, 27) for sprite in product_sprites(seed, side_px=64, views=1)]


def test_pixels_outside_the_masks_are_the_background(sprites: list[Sprite]) -> None:
    background = paint_background("on green grass", 1)
    pixels, masks = compose(background, sprites[:2], _PAIR, shadow_strength=0)
    outside = masks.sum(0) == 0
    assert 0.2 < outside.mean() < 0.9
    np.testing.assert_array_equal(pixels[outside], background[outside])


def test_pixels_are_exactly_what_the_masks_say(sprites: list[Sprite]) -> None:
    # the same sprites on black and on white differ by what the masks leave of the background
    black, white = np.zeros((96, 96, 3), np.uint8), np.full((96, 96, 3), 255, np.uint8)
    on_black, masks = compose(black, sprites[:2], _PAIR, shadow_strength=0)
    on_white, masks_again = compose(white, sprites[:2], _PAIR, shadow_strength=0)
    np.testing.assert_array_equal(masks, masks_again)
    through = on_white.astype(int) - on_black
    np.testing.assert_allclose(
        through, 255 - masks.astype(int).sum(0)[..., None].repeat(3, 2), atol=2
    )


def test_a_mask_equals_the_sprites_alpha_where_one_pixel_is_one_pixel(
    sprites: list[Sprite],
) -> None:
    background = paint_background("in the snow", 0)
    placement = Placement(size=0.5, center_x=0.5, base_y=0.75)
    masks = compose(background, sprites[:1], [placement])[1]
    np.testing.assert_array_equal(masks[0, 32:96, 32:96], sprites[0].rgba[..., 3])
    assert masks[0].sum() == sprites[0].rgba[..., 3].sum()
    mirrored = compose(background, sprites[:1], [Placement(0.5, 0.5, 0.75, flipped=True)])[1]
    np.testing.assert_array_equal(mirrored[0], masks[0][:, ::-1])


def test_what_stands_in_front_hides_what_stands_behind(sprites: list[Sprite]) -> None:
    background = paint_background("on a road", 0)
    one = Placement(0.6, 0.5, 0.9)
    alone = compose(background, sprites[:1], [one])[1][0]
    behind, front = compose(background, sprites[:2], [one, one])[1]
    assert front.max() == 255
    assert not behind[front == 255].any()
    np.testing.assert_array_equal(behind[front == 0], alone[front == 0])
    assert (behind.astype(int) + front <= 255).all()


def test_a_contact_shadow_only_darkens(sprites: list[Sprite]) -> None:
    background = paint_background("on a white background", 0)
    shadowed, masks = compose(background, sprites[:1], [Placement(0.5, 0.5, 0.8)])
    outside = masks[0] == 0
    assert (shadowed[outside] <= background[outside]).all()
    assert (shadowed[outside] < background[outside]).any()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_products_stand_from_left_to_right_and_each_is_seen(
    count: int, sprites: list[Sprite]
) -> None:
    placements, again = (draw_placements(np.random.default_rng(3), count) for _ in range(2))
    assert placements == again
    masks = compose(paint_background("on a road", 0), sprites[:count], placements)[1]
    assert masks.shape == (count, 128, 128)
    assert all(mask.max() == 255 for mask in masks)
    columns = [np.flatnonzero(mask.max(0)).mean() for mask in masks]
    assert columns == sorted(columns)


def test_compose_refuses_what_does_not_fit(sprites: list[Sprite]) -> None:
    square = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(GenerationError, match="8 x 6; expected a square"):
        compose(square[:6], [], [])
    with pytest.raises(GenerationError, match="1 sprites but 2 placements"):
        compose(square, sprites[:1], _PAIR)
    with pytest.raises(GenerationError, match="4 products"):
        draw_placements(np.random.default_rng(0), 4)


@pytest.mark.parametrize("kind", sorted(BACKGROUNDS))
def test_backgrounds_repeat_and_vary(kind: str) -> None:
    first = paint_background(kind, 4)
    assert first.shape == (128, 128, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, paint_background(kind, 4))
    assert (first != paint_background(kind, 5)).any()
    assert first.std() > 1


def test_backgrounds_in_another_size_and_unknown_ones() -> None:
    assert paint_background("on a road", 0, side_px=200).shape == (200, 200, 3)
    with pytest.raises(ConfigurationError, match=r"'on the moon'.*on a wooden table"):
        paint_background("on the moon", 0)


def test_captions_name_colours_and_patterns() -> None:
    mug = SpriteLabel("mug", "orange", "navy", "striped", "matte")
    book = SpriteLabel("book", "red", "white", "plain", "glossy")
    apple = SpriteLabel("green apple")
    rng = np.random.default_rng(0)
    phrases = {noun_phrase(mug, rng) for _ in range(200)}
    assert phrases == {
        "mug",
        "striped mug",
        "orange striped mug",
        "orange and navy striped mug",
    }
    assert {noun_phrase(book, rng) for _ in range(200)} == {"book", "red book", "glossy red book"}
    assert noun_phrase(apple, rng) == "green apple"
    assert with_article("orange mug") == "an orange mug"
    assert "an empty scene" in caption([], "on a road", rng)
    pairs = [caption([apple, book], "on a road", rng) for _ in range(300)]
    assert all("apple" in pair and "book" in pair for pair in pairs)
    assert {"on the left" in pair for pair in pairs} == {True, False}
    for pair in pairs:
        if "on the left" in pair:
            assert pair.index("apple") < pair.index("book")
        if "to the right of" in pair:
            assert pair.index("book") < pair.index("apple")
