from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.generation.compositing import (
    CAST_RANGE,
    LIGHT_RANGE,
    Layer,
    compose,
    enlarge,
    ground_shadow,
    light_on,
    place,
    shade_on,
    to_floats,
    to_pixels,
    visible,
)
from catalog_pipeline.records import Cutout, Region

RED = (200, 20, 20)
MIDDLE = Region(0.25, 0.3, 0.75, 0.9)


def square(side: int = 24, color: tuple[int, int, int] = RED, rim: int = 0) -> Cutout:
    """A square of one colour; a transparent rim of green where ``rim`` is not 0."""
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[..., :3], rgba[..., 1] = (0, 255, 0), 255
    inner = slice(rim, side - rim)
    rgba[inner, inner] = (*color, 255)
    return Cutout(rgba)


def grey(side: int = 40, level: float = 0.5) -> np.ndarray:
    return np.full((side, side, 3), level, np.float32)


def test_a_cutout_fills_its_box_and_nothing_else():
    layer = place(square(), MIDDLE, 40, 40)
    assert layer.box == (10, 12, 30, 36)
    assert layer.opacity[12:36, 10:30].min() > 0.99
    assert layer.opacity.sum() == pytest.approx(20 * 24, rel=1e-3)
    np.testing.assert_allclose(layer.color[20, 20] * 255, RED, atol=1)


def test_what_was_around_a_product_does_not_bleed_into_its_edge():
    layer = place(square(rim=4), MIDDLE, 40, 40)
    edge = (layer.opacity > 0.05) & (layer.opacity < 0.95)
    assert edge.any()
    assert layer.color[edge][:, 1].max() < 0.2  # the rim is pure green


@pytest.mark.parametrize("box", [Region(-0.2, 0.5, 0.2, 1.1), Region(0.9, -0.3, 1.4, 0.2)])
def test_a_box_may_leave_the_picture(box: Region):
    layer = place(square(), box, 40, 40)
    assert 0 < layer.opacity.sum() < 40 * 40


def test_a_later_product_hides_an_earlier_one():
    first, second = (
        place(square(), MIDDLE, 40, 40),
        place(square(), Region(0.5, 0.3, 1, 0.9), 40, 40),
    )
    shown = visible([first, second])
    assert shown[0][20, 15] == pytest.approx(1, abs=1e-3)
    assert shown[0][20, 25] == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(shown[1], second.opacity)


def test_the_shadow_lies_on_the_ground_below_a_product_and_nowhere_else():
    kept = ground_shadow([place(square(), MIDDLE, 40, 40)])
    assert kept.min() < 0.6
    assert np.unravel_index(kept.argmin(), kept.shape)[0] == pytest.approx(35, abs=2)
    assert kept[:20].min() > 0.999
    assert kept[35, 0] > 0.95


def test_composed_products_cover_the_scene_and_shadows_do_not_darken_them():
    layer = place(square(), MIDDLE, 40, 40)
    picture = compose(grey(), [layer], ground_shadow([layer]))
    np.testing.assert_allclose(picture[20, 20] * 255, RED, atol=1)
    np.testing.assert_allclose(picture[2, 2], 0.5)
    assert picture[36, 20].max() < 0.45


def test_light_of_a_picture_that_was_not_changed_is_none():
    layer = place(square(), MIDDLE, 40, 40)
    given = compose(grey(), [layer])
    np.testing.assert_allclose(light_on(given, given, layer), 1, atol=1e-4)
    np.testing.assert_allclose(shade_on(given, given, [layer]), 1, atol=1e-4)


def test_light_follows_the_redraw_and_keeps_within_its_bounds():
    layer = place(square(color=(120, 120, 120)), MIDDLE, 40, 40)
    given = compose(grey(), [layer])
    brighter = light_on((given * 1.06).astype(np.float32), given, layer)
    assert brighter[20, 20] == pytest.approx(1.06, abs=0.02)
    wild = light_on(given[:, :, ::-1] * np.array((3, 1, 0.2), np.float32), given, layer)
    low, high = LIGHT_RANGE[0] * CAST_RANGE[0], LIGHT_RANGE[1] * CAST_RANGE[1]
    assert low - 1e-6 <= wild.min() < wild.max() <= high + 1e-6


def test_light_knows_no_line_of_a_print():
    layer = place(square(side=96, color=(120, 120, 120)), MIDDLE, 160, 160)
    given = compose(grey(160), [layer])
    striped = given.copy()
    striped[60:64] = 1
    light = light_on(striped, given, layer)[..., 1]
    assert np.abs(np.diff(light[50:140, 80])).max() < 0.01


def test_shade_is_taken_near_the_ground_and_brightness_never():
    layer = place(square(), MIDDLE, 40, 40)
    dark = shade_on(grey(level=0.2), grey(), [layer])
    assert dark[35, 20] < 0.8
    assert dark[:10].min() > 0.98
    np.testing.assert_allclose(shade_on(grey(level=0.9), grey(), [layer]), 1)


def test_pictures_survive_the_way_to_floats_and_back():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    assert np.array_equal(to_pixels(to_floats(pixels)), pixels)
    assert enlarge(to_floats(pixels), 8, 12).shape == (12, 8, 3)
    assert enlarge(to_floats(pixels)[..., 0], 8, 12).shape == (12, 8)


def test_a_layer_of_nothing_has_no_shadow():
    nothing = Layer(np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.float32), (2, 2, 6, 6))
    np.testing.assert_allclose(ground_shadow([nothing]), 1)
