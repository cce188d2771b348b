"""The mark is not seen, outlives PNG and JPEG, and is right where there is little to mark."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from catalog_pipeline.provenance.watermark import (
    TOLERATED,
    embed,
    extract,
    payload_of,
    wrong_bits,
)
from catalog_pipeline.records import Pixels
from tests.provenance.pictures import decoded, encoded, packshot, psnr, scene

KEY = bytes(range(32))
OTHER_KEY = bytes(reversed(range(32)))
JOBS = ("3f9a" * 16, "job of another night")
DRAWN = pytest.mark.parametrize("draw", [packshot, scene])


@DRAWN
@pytest.mark.parametrize("side", [128, 256, 512])
@pytest.mark.parametrize("quality", [75, 90, None])
def test_the_mark_is_read_again_after_png_and_jpeg(
    draw: Callable[[int, int], Pixels], side: int, quality: int | None
) -> None:
    for seed, job in enumerate(JOBS):
        payload = payload_of(job, KEY)
        marked = embed(draw(side, seed), payload, KEY)
        file = (
            encoded(marked, "PNG") if quality is None else encoded(marked, "JPEG", quality=quality)
        )
        assert wrong_bits(extract(decoded(file), KEY), payload) <= (0 if side > 128 else TOLERATED)


@DRAWN
def test_the_mark_is_not_seen(draw: Callable[[int, int], Pixels]) -> None:
    pixels = draw(512, 0)
    marked = embed(pixels, payload_of(JOBS[0], KEY), KEY)
    assert (marked.dtype, marked.shape) == (pixels.dtype, pixels.shape)
    assert psnr(pixels, marked) > 44
    assert structural_similarity(pixels, marked, channel_axis=2) > 0.98
    assert np.abs(marked.astype(int) - pixels).max() <= 8


def test_pure_white_stays_pure_white() -> None:
    pixels = packshot(512)
    marked = embed(pixels, payload_of(JOBS[0], KEY), KEY)
    background = (pixels == 255).all(axis=-1)
    assert background.mean() > 0.5
    changed = (marked != pixels).any(axis=-1)
    assert (changed & background).sum() < 0.04 * background.sum()  # of blocks with a border
    assert (marked[:64, :64] == 255).all()


def test_the_same_picture_job_and_key_give_the_same_pixels() -> None:
    pixels, payload = scene(130), payload_of(JOBS[0], KEY)
    before = pixels.copy()
    np.testing.assert_array_equal(embed(pixels, payload, KEY), embed(pixels, payload, KEY))
    np.testing.assert_array_equal(pixels, before)


@DRAWN
def test_without_the_key_or_without_a_mark_nothing_is_found(
    draw: Callable[[int, int], Pixels],
) -> None:
    pixels, payload = draw(512, 0), payload_of(JOBS[0], KEY)
    assert wrong_bits(extract(pixels, KEY), payload) > 2 * TOLERATED
    marked = embed(pixels, payload, KEY)
    assert wrong_bits(extract(marked, OTHER_KEY), payload) > 2 * TOLERATED
    assert payload_of(JOBS[0], OTHER_KEY) != payload
    assert wrong_bits(payload_of(JOBS[1], KEY), payload) > 2 * TOLERATED


@DRAWN
@pytest.mark.parametrize("factor", [0.5, 0.8, 1.5])
def test_a_scaled_picture_keeps_its_mark_at_its_own_size(
    draw: Callable[[int, int], Pixels], factor: float
) -> None:
    payload = payload_of(JOBS[0], KEY)
    marked = Image.fromarray(embed(draw(512, 0), payload, KEY))
    scaled = marked.resize((round(512 * factor),) * 2, Image.Resampling.LANCZOS)
    again = decoded(encoded(np.asarray(scaled), "JPEG", quality=80))
    back = Image.fromarray(again).resize((512, 512), Image.Resampling.LANCZOS)
    assert wrong_bits(extract(np.asarray(back), KEY), payload) <= TOLERATED


def test_a_picture_cut_at_its_lower_right_keeps_its_mark() -> None:
    payload = payload_of(JOBS[0], KEY)
    marked = embed(scene(512), payload, KEY)
    assert wrong_bits(extract(marked[:400, :333], KEY), payload) <= TOLERATED


def test_a_picture_too_small_for_a_block_is_left_alone() -> None:
    tiny = scene(7)
    np.testing.assert_array_equal(embed(tiny, 5, KEY), tiny)
    assert extract(tiny, KEY) == 0


def test_the_layout_is_that_of_every_release() -> None:
    """An archive is asked in years; the numbers are those that were written first."""
    grey = np.full((64, 64, 3), 120, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(embed(grey, 0xABCDEF123456, KEY)).save(stream, "PNG")
    with Image.open(stream) as image:
        assert np.asarray(image)[::9, 5, 0].tolist() == FIRST_COLUMN


FIRST_COLUMN = [119, 122, 120, 119, 120, 121, 120, 121]
