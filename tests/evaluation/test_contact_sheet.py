from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.evaluation.contact_sheet import (
    contact_sheet,
    decode_png,
    encode_jpeg,
    encode_png,
)
from tests.evaluation.drawn import photo_of


def flat(color: tuple[int, int, int], height: int = 40, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), color, dtype=np.uint8)


def test_pictures_stand_in_their_cells_whole_and_unstretched():
    red, wide = flat((255, 0, 0)), flat((0, 0, 255), 20, 40)
    sheet = contact_sheet([[red, wide], [red]], cell_px=40)
    assert sheet.shape == (82, 82, 3)
    assert (sheet[:40, :40] == (255, 0, 0)).all()
    assert (sheet[10:30, 42:82] == (0, 0, 255)).all()
    assert (sheet[:10, 42:82] == 255).all()
    assert (sheet[42:, 42:] == 255).all()


def test_a_row_of_wide_pictures_of_one_size_has_wide_cells():
    red, blue = flat((255, 0, 0)), flat((0, 0, 255), 20, 30)
    sheet = contact_sheet([[red, red, red], [blue, blue]], cell_px=40)
    assert sheet.shape == (82, 124, 3)
    assert (sheet[42:, :60] == (0, 0, 255)).all()
    assert (sheet[42:, 62:122] == (0, 0, 255)).all()
    assert contact_sheet([[blue, blue]], cell_px=40, square=True).shape == (40, 82, 3)
    panorama = contact_sheet([[flat((0, 0, 255), 20, 200)]], cell_px=40)
    assert panorama.shape == (40, 100, 3)
    assert (panorama[15:25] == (0, 0, 255)).all()


def test_captions_take_a_strip_above_each_row():
    plain = contact_sheet([[flat((9, 9, 9))]], cell_px=40)
    titled = contact_sheet([[flat((9, 9, 9))]], captions=["a very long name " * 9], cell_px=40)
    assert titled.shape[0] > plain.shape[0]
    assert titled.shape[1] == plain.shape[1]
    assert (titled[:-40] != 255).any()


def test_captions_must_match_the_rows():
    with pytest.raises(ValueError, match="got 2 captions for 1 rows"):
        contact_sheet([[flat((0, 0, 0))]], captions=["a", "b"])


def test_nothing_to_show_is_one_empty_cell():
    assert contact_sheet([], cell_px=32).shape == (32, 32, 3)


def test_png_round_trip_is_exact_and_repeatable():
    pixels = photo_of("crate")
    data = encode_png(pixels)
    np.testing.assert_array_equal(decode_png(data), pixels)
    assert encode_png(pixels) == data


@pytest.mark.parametrize("encode", [encode_png, encode_jpeg])
def test_pictures_shrink_until_they_fit(encode):
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    assert len(encode(noise)) > 50_000
    assert len(encode(noise, max_bytes=50_000)) <= 50_000
    assert encode(noise[:20, :20], max_bytes=50_000) == encode(noise[:20, :20])


@pytest.mark.parametrize("data", [b"", b"not a picture", encode_png(flat((1, 2, 3)))[:40]])
def test_broken_png_is_refused(data):
    with pytest.raises(IntegrityError, match="not a whole PNG"):
        decode_png(data)
