from __future__ import annotations

import io

import numpy as np
from PIL import Image

from catalog_pipeline.workflows.night.night_sheet import SHEET_MAX_BYTES, draw_night_sheet


def test_a_night_without_pictures_has_no_sheet() -> None:
    assert draw_night_sheet([]) == b""


def test_pictures_of_one_size_stand_together_in_rows_that_they_fill() -> None:
    red = np.full((128, 128, 3), (255, 0, 0), np.uint8)
    blue = np.full((128, 192, 3), (0, 0, 255), np.uint8)
    night = [red, blue] * 6  # six square pictures: a row; six wide ones: four and two
    with Image.open(io.BytesIO(draw_night_sheet(night))) as sheet:
        assert sheet.size == (6 * 130 - 2, 3 * 130 - 2)
        colors = sheet.convert("RGB")
    assert [colors.getpixel((x * 130 + 64, 64)) for x in range(6)] == [(255, 0, 0)] * 6
    assert [colors.getpixel((x * 194 + 96, 194)) for x in range(4)] == [(0, 0, 255)] * 4
    assert [colors.getpixel((x * 194 + 96, 324)) for x in range(2)] == [(0, 0, 255)] * 2


def test_pictures_of_one_mode_stand_together_under_its_name() -> None:
    red = np.full((128, 128, 3), (255, 0, 0), np.uint8)
    blue = np.full((128, 128, 3), (0, 0, 255), np.uint8)
    night = [red, blue, red, blue]
    with Image.open(io.BytesIO(draw_night_sheet(night, ["exact", "learned"] * 2))) as sheet:
        assert sheet.size == (2 * 130 - 2, 2 * 148 - 2)
        colors = sheet.convert("RGB")
    for place, colour in enumerate([(255, 0, 0), (0, 0, 255)]):
        below = place * 148 + 18 + 64
        assert [colors.getpixel((x * 130 + 64, below)) for x in range(2)] == [colour] * 2
        caption = np.asarray(colors)[place * 148 : place * 148 + 18]
        assert caption.min() < 128 < caption.max()


def test_cells_shrink_until_the_file_is_small() -> None:
    rng = np.random.default_rng(0)
    night = [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(24)]
    assert 0 < len(draw_night_sheet(night)) < SHEET_MAX_BYTES
