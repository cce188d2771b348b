from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.errors import ConfigurationError, GenerationError
from catalog_pipeline.studio.camera import View
from catalog_pipeline.studio.families import FAMILIES, build_parts
from catalog_pipeline.studio.palette import PALETTE
from catalog_pipeline.studio.patterns import BASE_PATTERNS, UNSEEN_PATTERNS
from catalog_pipeline.studio.product import Product
from catalog_pipeline.studio.render import render_product
from catalog_pipeline.studio.sprites import product_sprites, stand_in_square, visible_box

_SIDE_PX = 40


def _product(family: str, pattern: str = "plain") -> Product:
    rng = np.random.default_rng(5)
    parts = build_parts(family, rng, PALETTE["red"], PALETTE["white"])
    return Product(parts, pattern, PALETTE["white"])


def test_there_are_twenty_nine_families() -> None:
    assert len(FAMILIES) == 29


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("azimuth", [0.0, 1.2])
def test_every_family_is_seen_whole(family: str, azimuth: float) -> None:
    rgba = render_product(_product(family), View(azimuth=azimuth), _SIDE_PX, supersampling=1)
    assert rgba.shape == (_SIDE_PX, _SIDE_PX, 4)
    left, top, right, bottom = visible_box(rgba)
    assert left > 0
    assert top > 0
    assert right < _SIDE_PX
    assert bottom < _SIDE_PX
    assert (rgba[..., 3] > 0).mean() > 0.05
    assert not rgba[rgba[..., 3] == 0].any()


@pytest.mark.parametrize("pattern", BASE_PATTERNS[1:] + UNSEEN_PATTERNS)
def test_a_pattern_changes_the_paint_and_never_the_silhouette(pattern: str) -> None:
    view = View(azimuth=0.2, elevation=0.2)
    plain = render_product(_product("mug"), view, _SIDE_PX)
    printed = render_product(_product("mug", pattern), view, _SIDE_PX)
    np.testing.assert_array_equal(plain[..., 3], printed[..., 3])
    assert (np.abs(plain.astype(int) - printed).max(-1) > 40).mean() > 0.02


def test_one_ray_per_pixel_makes_a_hard_mask_and_more_a_soft_one() -> None:
    hard = render_product(_product("mug"), View(), _SIDE_PX, supersampling=1)[..., 3]
    soft = render_product(_product("mug"), View(), _SIDE_PX, supersampling=2)[..., 3]
    assert set(np.unique(hard)) == {0, 255}
    assert set(np.unique(soft)) == {0, 64, 128, 191, 255}


def test_a_lamp_on_the_other_side_lights_the_other_side() -> None:
    def brightness(light_azimuth: float) -> tuple[float, float]:
        view = View(azimuth=0.0, light_azimuth=light_azimuth)
        rgba = render_product(_product("can"), view, _SIDE_PX)
        half = _SIDE_PX // 2
        return float(rgba[:, :half, :3].mean()), float(rgba[:, half:, :3].mean())

    left, right = brightness(1.2)
    assert right > left
    left, right = brightness(-1.2)
    assert left > right


def test_sprites_repeat_and_stand_on_the_lower_edge() -> None:
    first, second = list(product_sprites(3, side_px=32)), list(product_sprites(3, side_px=32))
    assert len(first) == 2
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.rgba, other.rgba)
        assert one.label == other.label
    assert (first[0].rgba != first[1].rgba).any()
    box = visible_box(first[0].rgba)
    assert box[3] == 32
    assert max(box[2] - box[0], box[3] - box[1]) >= 31


def test_random_products_wear_base_patterns_and_take_the_families_in_turn() -> None:
    families = ("can", "jar")
    labels = [
        sprite.label
        for seed in range(24)
        for sprite in product_sprites(seed, side_px=8, families=families, views=1)
    ]
    assert {label.pattern for label in labels} <= set(BASE_PATTERNS)
    assert [label.name for label in labels] == ["can", "jar"] * 12
    assert all(label.color != label.secondary_color for label in labels)
    assert {label.finish for label in labels} == {"glossy", "matte"}


def test_clear_errors() -> None:
    with pytest.raises(ConfigurationError, match=r"'hovercraft'.*mug, bottle"):
        _product("hovercraft")
    with pytest.raises(GenerationError, match="empty"):
        stand_in_square(np.zeros((8, 8, 4), np.uint8))
