"""Palettes: which colours a product has."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from catalog_pipeline.evaluation.palettes import (
    CHROMA_BINS,
    LIGHTNESS_BINS,
    PALETTE_BINS,
    mean_palette,
    palette_distance,
    palette_likeness,
    palette_of,
    palette_of_photos,
    palette_spread,
)
from catalog_pipeline.records import Photo

RED, BLUE, WHITE = (220, 30, 30), (30, 30, 220), (255, 255, 255)


def filled(*halves: tuple[int, int, int]) -> np.ndarray:
    """Stripes of equal width."""
    return np.concatenate([np.full((8, 8, 3), color, np.uint8) for color in halves], axis=1)


def test_a_palette_is_shares_of_colours():
    palette = palette_of(filled(RED, BLUE))
    assert palette.shape == (PALETTE_BINS,)
    assert palette.sum() == pytest.approx(1, abs=1e-6)
    assert (palette >= 0).all()


def test_likeness_is_one_for_the_same_colours_and_nearly_none_for_others():
    red, blue, both = (palette_of(filled(*colors)) for colors in ((RED,), (BLUE,), (RED, BLUE)))
    assert palette_likeness(red, red) == pytest.approx(1, abs=1e-6)
    assert palette_likeness(red, blue) < 0.1
    assert palette_likeness(red, blue) < palette_likeness(red, both) < 1
    assert palette_likeness(red, both) == palette_likeness(both, red)


def test_a_small_change_of_light_changes_little():
    darker = tuple(round(0.92 * value) for value in RED)
    assert palette_likeness(palette_of(filled(RED)), palette_of(filled(darker))) > 0.9


def test_only_what_is_inside_counts():
    picture = filled(RED, WHITE)
    inside = np.zeros((8, 16), dtype=bool)
    inside[:, :8] = True
    np.testing.assert_array_equal(palette_of(picture, inside), palette_of(filled(RED)))


def test_the_palette_of_photos_is_of_the_masked_product():
    mask = np.zeros((8, 16), np.uint8)
    mask[:, :8] = 255
    masked = Photo("a", "", filled(RED, WHITE), mask)
    other = Photo("b", "", filled(BLUE, WHITE), mask)
    plain = Photo("c", "", filled(WHITE), None)
    expected = mean_palette([palette_of(filled(RED)), palette_of(filled(BLUE))])
    found = palette_of_photos([masked, plain, other])
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert palette_of_photos([plain]) is None


def test_no_palette_has_no_mean():
    with pytest.raises(ValueError, match="at least one photo"):
        mean_palette([])


def test_the_distance_of_two_palettes_is_how_far_their_colours_must_move():
    first, second = np.zeros((2, PALETTE_BINS), np.float32)
    first[0], second[21] = 1, 1
    second[[21, 90]] = 0.25, 0.75
    way = rgb2lab(np.clip(bin_colors()[[0, 21, 90]], 0, 1))
    expected = 0.25 * np.linalg.norm(way[1] - way[0]) + 0.75 * np.linalg.norm(way[2] - way[0])
    assert palette_distance(first, second) == pytest.approx(expected, rel=1e-4)
    assert palette_distance(second, first) == pytest.approx(expected, rel=1e-4)
    assert palette_distance(first, first) == pytest.approx(0, abs=1e-6)


def bin_colors() -> np.ndarray:
    """sRGB of every bin by its definition, in a slow loop."""
    colors = []
    for lightness, red, yellow in np.ndindex(LIGHTNESS_BINS, CHROMA_BINS, CHROMA_BINS):
        axes = (
            lightness / (LIGHTNESS_BINS - 1),
            (red / (CHROMA_BINS - 1) * 2 - 1) * 0.3,
            (yellow / (CHROMA_BINS - 1) * 2 - 1) * 0.3,
        )
        blue = axes[0] - 4 / 3 * axes[2]
        both = 3 * axes[0] - blue  # red and green
        colors.append((both / 2 + axes[1], both / 2 - axes[1], blue))
    return np.array(colors)


def test_colours_of_no_kind_in_common_are_still_nearer_or_further():
    black, brown, white = (palette_of(filled((v, w, u))) for v, w, u in (
        (20, 20, 20), (110, 70, 40), (250, 250, 250)
    ))  # fmt: skip
    assert 20 < palette_distance(black, brown) < palette_distance(black, white) < 110


def test_photos_that_differ_spread_and_one_odd_photo_does_not_count():
    red, darker, blue = (palette_of(filled(c)) for c in (RED, (190, 25, 25), BLUE))
    assert palette_spread([red]) == 0
    assert palette_spread([red, red]) == pytest.approx(0, abs=1e-6)
    alike, odd, mixed = (
        palette_spread(found)
        for found in ([red, darker] * 2, [red, darker, red, darker, blue], [red, blue, red, blue])
    )
    assert alike < odd < 0.3 * palette_distance(red, blue) < mixed
