from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.evaluation.matting import cut_out_product, look_again
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.records import Photo, Region


def ball_on(background: tuple[int, int, int]) -> Photo:
    """A red ball of radius 30 with a soft edge, drawn at four times its size."""
    rows, columns = np.mgrid[:640, :640]
    inside = ((rows - 320) ** 2 + (columns - 320) ** 2 <= 120**2)[..., None]
    large = np.where(inside, (200, 40, 30), background).reshape(160, 4, 160, 4, 3)
    return Photo("ball/a.png", "a" * 64, np.rint(large.mean(axis=(1, 3))).astype(np.uint8))


def test_a_cut_out_is_the_product_with_a_soft_edge_and_no_colour_of_its_floor(masker) -> None:
    found = cut_out_product(ball_on((40, 160, 60)), masker)
    cutout, room = found.rgba, found.room
    height, width, _ = cutout.shape
    assert room is not None
    assert np.abs(room[0, 0].astype(int) - (40, 160, 60)).max() <= 3
    assert abs(height - 60) <= 6
    assert abs(width - 60) <= 6
    opacity = cutout[..., 3] / 255
    assert abs(opacity.sum() / (np.pi * 30**2) - 1) < 0.05
    edge = cutout[(opacity > 0.2) & (opacity < 0.95)]
    assert len(edge) > 20
    assert edge[:, 1].mean() < 70  # the floor's green is 160, the ball's 40


def test_a_cut_out_is_deterministic(masker) -> None:
    photo = ball_on((40, 160, 60))
    first, second = (cut_out_product(photo, masker).rgba for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_alpha_of_a_file_stays_and_its_colours_are_cleaned(masker) -> None:
    photo = ball_on((40, 160, 60))
    rows, columns = np.mgrid[:160, :160]
    distance = np.hypot(rows - 79.5, columns - 79.5)
    mask = np.rint(np.clip(30.5 - distance, 0, 1) * 255).astype(np.uint8)
    found = cut_out_product(Photo(photo.key, photo.sha256, photo.pixels, mask), masker)
    assert found.room is None
    cutout = found.rgba
    inside = mask.any(axis=1), mask.any(axis=0)
    np.testing.assert_allclose(cutout[..., 3], mask[inside[0]][:, inside[1]], atol=1)
    edge = cutout[(cutout[..., 3] > 50) & (cutout[..., 3] < 200)]
    assert edge[:, 1].mean() < 70


def test_a_photo_of_nothing_is_refused_in_one_line(masker) -> None:
    photo = Photo("empty/a.png", "a" * 64, np.full((64, 64, 3), 128, np.uint8),
                  np.zeros((64, 64), np.uint8))  # fmt: skip
    with pytest.raises(ValueError, match=r"empty/a.png: got no product.*cut-out PNG"):
        cut_out_product(photo, masker)


def test_looks_at_a_drawn_product_agree(masker) -> None:
    looks = look_again(ball_on((40, 160, 60)), masker)
    assert looks.agreement > 0.9
    assert looks.mask.shape == (160, 160)


def test_a_product_seen_before_is_cut_out_as_before_with_half_the_looks(masker) -> None:
    photo, looks = ball_on((40, 160, 60)), 0

    class Counted(ProductMasker):
        def _saliency(self, pixels: np.ndarray) -> np.ndarray:
            nonlocal looks
            looks += 1
            return masker._saliency(pixels)

    first = cut_out_product(photo, masker).rgba
    again = cut_out_product(photo, Counted(), seen=Region(0.31, 0.31, 0.69, 0.69)).rgba
    assert looks == 2
    assert np.abs(np.subtract(first.shape, again.shape)).max() <= 2
    assert (again[..., 3] >= 128).sum() == pytest.approx((first[..., 3] >= 128).sum(), rel=0.02)


def test_what_one_look_alone_sees_is_no_product() -> None:
    """Of four looks, two over the whole photo, only the first finds anything."""

    class OneLook(ProductMasker):
        looks = 0

        def _saliency(self, pixels: np.ndarray) -> np.ndarray:
            self.looks += 1
            seen = np.zeros(pixels.shape[:2], np.uint8)
            if self.looks == 1:
                seen[20:40, 20:40] = 255
            return seen

    looks = look_again(Photo("a.png", "a" * 64, np.zeros((64, 64, 3), np.uint8)), OneLook())
    assert not looks.mask.any()
    assert looks.agreement == 0.0
    assert looks.disputed > 0
