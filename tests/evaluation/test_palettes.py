"""Palettes: which colours a product has."""

from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.evaluation.palettes import (
    PALETTE_BINS,
    mean_palette,
    palette_likeness,
    palette_of,
    palette_of_photos,
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
