from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from catalog_pipeline.evaluation.anchor_photos import judge_photos
from catalog_pipeline.evaluation.features import FeatureEncoder, open_encoder
from catalog_pipeline.records import Photo
from tests.evaluation.drawn import photo_of


@pytest.fixture(scope="module")
def encoder() -> FeatureEncoder:
    return open_encoder()


def photo(name: str, pixels: np.ndarray, mask: np.ndarray | None = None) -> Photo:
    return Photo(f"crate/{name}", name.ljust(64, "0"), pixels, mask)


PLACES = (0, 2)
"""Of the drawn crates: a small one before near white, a larger one before a leaf green."""


@pytest.fixture(scope="module")
def crates() -> list[Photo]:
    return [photo(f"0{place}.png", photo_of("crate", place, 240)) for place in PLACES]


def square(place: int) -> np.ndarray:
    """The exact mask of the crate of ``photo_of("crate", place)``."""
    mask = np.zeros((240, 240), np.uint8)
    unit = 240 * (0.30 + 0.05 * place)
    left, top = round(120 - unit / 2 + 6 * place), round(120 - unit / 2)
    mask[top : top + round(unit), left : left + round(unit)] = 255
    return mask


@pytest.fixture
def cut_outs(crates) -> list[Photo]:
    """The same crates with the masks that their files carry; the network is not asked."""
    return [replace(one, mask=square(place)) for one, place in zip(crates, PLACES, strict=True)]


def blurred(one: Photo) -> Photo:
    soft = Image.fromarray(one.pixels).filter(ImageFilter.GaussianBlur(4))
    return replace(one, key="crate/03.png", pixels=np.asarray(soft))


def test_a_product_that_stands_free_can_be_used(crates, masker, encoder) -> None:
    judged = judge_photos(crates, masker, encoder)
    assert [one.reason for one in judged] == ["", ""]
    assert [one.key for one in judged] == [one.key for one in crates]
    assert [one.sha256 for one in judged] == [one.sha256 for one in crates]
    for place, one in zip(PLACES, judged, strict=True):
        assert one.height_px == pytest.approx(240 * (0.30 + 0.05 * place), abs=8)
        assert one.aspect == pytest.approx(1, abs=0.1)
    assert judged[0].light[0] > judged[1].light[0] + 10  # near white, then a leaf green
    assert judged[1].light[1] < -5


def test_what_the_edge_of_the_photo_cuts_off_is_refused(crates, masker, encoder) -> None:
    cut = np.ascontiguousarray(crates[1].pixels[:, 105:])
    judged = judge_photos([*crates, photo("03.png", cut)], masker, encoder)
    assert "cut off by the edge of the photo" in judged[2].reason
    assert judged[0].usable


def test_a_blurred_photo_is_refused_beside_sharp_ones(cut_outs, masker, encoder) -> None:
    judged = judge_photos([*cut_outs, blurred(cut_outs[1])], masker, encoder)
    assert "is blurred" in judged[2].reason
    assert all(one.usable for one in judged[:2])


def test_a_sure_mask_with_none_to_compare_it_with_is_not_used(crates, masker, encoder) -> None:
    empty = np.zeros((240, 240), np.uint8)
    others = [photo(name, crates[1].pixels, empty) for name in ("01.png", "02.png")]
    judged = judge_photos([crates[0], *others], masker, encoder)
    assert "only 1 of 3 photos" in judged[0].reason
    assert not any(one.usable for one in judged)


def test_a_card_names_the_photos_and_still_no_mask_is_no_photo(cut_outs, masker, encoder) -> None:
    empty = photo("04.png", cut_outs[0].pixels, np.zeros((240, 240), np.uint8))
    shown = [*cut_outs, blurred(cut_outs[1]), empty]
    judged = judge_photos(shown, masker, encoder, allowed={"03.png", "04.png"})
    assert all("anchor_photos" in one.reason for one in judged[:2])
    assert judged[2].usable  # a person chose it
    assert "no product is seen" in judged[3].reason


def test_a_cut_out_file_is_sure_by_itself(crates, masker, encoder) -> None:
    mask = np.zeros((240, 240), np.uint8)
    mask[40:120, 50:110] = 255
    (judged,) = judge_photos([photo("00.png", crates[0].pixels, mask)], masker, encoder)
    assert judged.usable
    assert (judged.aspect, judged.height_px) == (0.75, 80)
