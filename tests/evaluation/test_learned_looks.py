"""Pictures of a product against its photos, crop by crop: drawn products, the real networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from catalog_pipeline.evaluation.features import FeatureEncoder, open_encoder
from catalog_pipeline.evaluation.learned_looks import (
    LearnedLooks,
    color_differences,
    compare_looks,
    products_alone,
)
from catalog_pipeline.evaluation.palettes import palette_of_photos
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.records import Photo, Pixels
from tests.evaluation.drawn import BACKGROUNDS, photo_of, photos_of


@pytest.fixture(scope="module")
def encoder() -> FeatureEncoder:
    return open_encoder()


@pytest.fixture(scope="module")
def masker() -> ProductMasker:
    return ProductMasker()


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    """Three of the ball, each with the mask of what is not its background."""
    return [
        Photo(f"{index}", "", pixels, ball_mask(pixels, index))
        for index, pixels in enumerate(photos_of("ball"))
    ]


def ball_mask(pixels: Pixels, index: int) -> np.ndarray:
    floor = [int(BACKGROUNDS[index][at : at + 2], 16) for at in (1, 3, 5)]
    return np.where((pixels == floor).all(axis=2), 0, 255).astype(np.uint8)


def looks(pictures, photos, masker, encoder) -> LearnedLooks:
    found = compare_looks(pictures, photos, masker, encoder)
    assert found is not None
    return found


def test_pictures_as_good_as_photos_reach_them_and_another_product_does_not(
    photos, masker, encoder
):
    same = looks(photos_of("ball"), photos, masker, encoder)
    assert same.share > 0.9
    assert same.color_shift < 5
    other = looks(photos_of("crate"), photos, masker, encoder)
    assert other.share < 0.5 * same.share
    assert other.color_shift > 30


def test_a_product_in_other_colours_is_told_by_its_colours(photos, masker, encoder):
    green = [picture[..., [1, 0, 2]] for picture in photos_of("ball")]
    assert looks(green, photos, masker, encoder).color_shift > 30


def test_the_floor_of_the_photos_does_not_count(photos, masker, encoder):
    floors = [(20, 40, 90), (90, 20, 70), (250, 250, 250)]
    moved = [
        replace(photo, pixels=np.where(photo.mask[..., None] == 0, np.uint8(floor), photo.pixels))
        for photo, floor in zip(photos, floors, strict=True)
    ]
    pictures = [photo_of("crate", 1)]
    assert looks(pictures, moved, masker, encoder) == looks(pictures, photos, masker, encoder)


def test_without_masks_there_is_nothing_to_cut_out(photos, masker, encoder):
    bare = [replace(photo, mask=None) for photo in photos]
    pictures = [photo.pixels for photo in photos]
    assert compare_looks(pictures, bare, masker, encoder) is None
    assert compare_looks(pictures, [], masker, encoder) is None
    # One of three says nothing of how they differ; one of one is all there is.
    assert compare_looks(pictures, [photos[0], *bare[1:]], masker, encoder) is None
    alone = looks(pictures, photos[:1], masker, encoder)
    assert (alone.ceiling, alone.color_spread) == (1.0, 0.0)


def test_each_picture_is_held_against_the_remembered_colours(photos, masker):
    palette = palette_of_photos(photos)
    assert palette is not None
    pictures = [photo_of("ball", 1), photo_of("crate", 1), np.full((64, 64, 3), 255, np.uint8)]
    ball, crate, nothing = color_differences(products_alone(pictures, masker), palette)
    assert ball < 5
    assert min(crate, nothing) > 30


def test_of_a_mask_that_is_not_believed_only_the_box_counts(masker, monkeypatch):
    picture = photo_of("ball")
    pieces = np.zeros(picture.shape[:2], np.uint8)
    pieces[40:60, 50:60] = pieces[100:120, 100:130] = 255
    monkeypatch.setattr(masker, "_saliency", lambda pixels: pieces)
    ((_, inside),) = products_alone([picture], masker)
    assert inside[40:120, 50:130].all()
    assert inside.sum() == 80 * 80
    whole = np.zeros_like(pieces)
    whole[40:120, 50:130] = 255
    whole[40:60, 50:60] = 0
    monkeypatch.setattr(masker, "_saliency", lambda pixels: whole)
    ((_, inside),) = products_alone([picture], masker)
    np.testing.assert_array_equal(inside, whole > 0)
