"""Which photos are picked, on figures written by hand: no model is opened here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from catalog_pipeline.evaluation.photo_curation import Fault, Limits, Picks, pick_photos
from catalog_pipeline.evaluation.photo_signs import PhotoSigns

LIMITS = Limits(near_duplicate=0.06, max_blur=0.6, min_likeness=0.3)


def direction(*parts: float) -> np.ndarray:
    row = np.zeros(8, np.float32)
    row[: len(parts)] = parts
    return row / np.linalg.norm(row)


def signs(key: str, **changes: object) -> PhotoSigns:
    """A faultless photo: like the others of its set, and no copy of any."""
    chance = np.random.default_rng(int.from_bytes(key.encode()))
    good = PhotoSigns(
        key=key,
        pixels=512 * 512,
        hashes=chance.random((10, 256)) < 0.5,
        colours=np.full((8, 8, 3), 120, np.int16),
        blur=0.35,
        brightest=0.9,
        contrast=0.8,
        burnt_out=0.01,
        seen=True,
        cut=0.0,
        arm=0.0,
        skin=0.1,
        second=0.0,
        product=direction(1, 0.3),
        picture=direction(1, 0.3),
    )
    return replace(good, **changes)  # type: ignore[arg-type]


def good_set(count: int = 5) -> list[PhotoSigns]:
    return [signs(f"a{index}") for index in range(count)]


def pick(photos: list[PhotoSigns], *, fewest: int = 3, most: int = 30, **more: object) -> Picks:
    return pick_photos(photos, LIMITS, fewest=fewest, most=most, **more)  # type: ignore[arg-type]


def faults(picks: Picks) -> dict[str, Fault]:
    return {key: out.fault for key, out in picks.left_out.items()}


def test_a_good_set_stays_whole() -> None:
    for count in (1, 2, 3, 9):
        picks = pick(good_set(count))
        assert picks.kept == tuple(f"a{index}" for index in range(count))
        assert not picks.left_out
        assert not picks.recalled


def test_of_one_picture_the_larger_is_kept_unless_a_person_chose_the_other() -> None:
    small = signs("a0", pixels=100)
    large = replace(signs("b"), hashes=small.hashes)
    photos = [small, *good_set()[1:], large]
    picks = pick(photos)
    assert faults(picks) == {"a0": Fault.NEAR_DUPLICATE}
    assert picks.left_out["a0"].reason.startswith("is nearly the same picture as b; delete one")
    assert faults(pick(photos, always=["a0"])) == {"b": Fault.NEAR_DUPLICATE}
    assert not pick(photos, always=["a0", "b"]).left_out


def test_a_blurred_copy_goes_and_not_the_sharp_picture() -> None:
    sharp = signs("z")
    soft = replace(signs("a0", blur=0.8), hashes=sharp.hashes)
    assert faults(pick([soft, *good_set()[1:], sharp])) == {"a0": Fault.BLURRED}
    softer = replace(signs("a0", blur=0.5), hashes=sharp.hashes)
    assert faults(pick([softer, *good_set()[1:], sharp])) == {"a0": Fault.NEAR_DUPLICATE}


def test_where_a_product_is_held_a_hand_is_no_fault_though_few_masks_see_it() -> None:
    held = [replace(one, skin=0.7) for one in good_set()]
    assert not pick([*held, signs("hand", arm=0.7, skin=0.8)]).left_out


def test_another_colour_of_the_same_shape_is_another_picture() -> None:
    photos = good_set()
    red = replace(signs("red"), hashes=photos[0].hashes, colours=photos[0].colours + 90)
    assert not pick([*photos, red]).left_out


def test_a_frame_of_a_picture_is_the_same_picture() -> None:
    photos = good_set()
    cropped = signs("z")
    hashes = cropped.hashes.copy()
    hashes[0] = photos[0].hashes[4]
    assert faults(pick([*photos, replace(cropped, hashes=hashes)])) == {"z": Fault.NEAR_DUPLICATE}


@pytest.mark.parametrize(
    ("changes", "fault", "said"),
    [
        ({"brightest": 0.25}, Fault.EXPOSURE, "is too dark (its brightest spots are 25% of white"),
        ({"contrast": 0.08}, Fault.EXPOSURE, "has hardly any contrast (8% of white to black"),
        ({"burnt_out": 0.7}, Fault.EXPOSURE, "is burnt out (70% of the product"),
        ({"blur": 0.8}, Fault.BLURRED, "is blurred (0.80 of 1; expected 0.6 at most"),
        ({"arm": 0.5}, Fault.HAND, "shows a hand or an arm (50% of what stands out)"),
        ({"second": 0.6}, Fault.SEVERAL, "shows several things (the second is 60% as large"),
        ({"cut": 1.1}, Fault.CUT_OFF, "cut off by the edge of the photo"),
    ],
)
def test_what_is_odd_about_one_photo_is_usual_where_all_have_it(
    changes: dict[str, float], fault: Fault, said: str
) -> None:
    odd = signs("odd", **changes)
    picks = pick([*good_set(), odd])
    assert faults(picks) == {"odd": fault}
    assert said in picks.left_out["odd"].reason
    assert not pick([*good_set(), odd], always=["odd"]).left_out
    assert not pick([replace(one, **changes) for one in good_set()]).left_out  # type: ignore[arg-type]


def test_what_a_third_of_the_photos_show_is_no_fault() -> None:
    thin = [signs(f"b{index}", second=0.7) for index in range(2)]
    assert not pick([*good_set(4), *thin]).left_out
    assert faults(pick([*good_set(6), *thin])) == dict.fromkeys(("b0", "b1"), Fault.SEVERAL)


def test_a_stranger_is_left_out_and_the_sides_of_a_turntable_are_not() -> None:
    round_about = [
        replace(signs(f"t{index}"), product=direction(np.cos(a), np.sin(a)), picture=direction(1))
        for index, a in enumerate(np.linspace(0, np.pi, 7))
    ]
    assert not pick(round_about).left_out
    stranger = signs("x", product=direction(0, 0, 1), picture=direction(0, 0, 1))
    picks = pick([*good_set(2), stranger], fewest=3)
    assert faults(picks) == {"x": Fault.WRONG_PRODUCT}
    assert picks.kept == ("a0", "a1")
    assert "unlike all other photos of the product (likeness 0.00; expected 0.3)" in (
        picks.left_out["x"].reason
    )


def test_two_photos_of_one_stranger_do_not_vouch_for_each_other() -> None:
    strangers = [
        signs(key, product=direction(0, 0, 1), picture=direction(0, 0, 1)) for key in ("x", "y")
    ]
    assert set(faults(pick([*good_set(3), *strangers]))) == {"x", "y"}
    assert not pick([*good_set(2), *strangers]).left_out  # As many of each: which is it?


def test_a_photo_in_which_nothing_is_seen_is_said_so() -> None:
    empty = signs("x", seen=False, product=direction(0, 0, 1), picture=direction(0, 0, 1))
    assert faults(pick([*good_set(), empty])) == {"x": Fault.NOT_FOUND}
    dim = replace(empty, product=direction(0.2, 0, 1), picture=direction(1))
    assert not pick([*good_set(), dim]).left_out


def test_the_same_room_vouches_for_a_side_that_looks_different() -> None:
    back = signs("back", product=direction(0.2, 0, 1))
    assert not pick([*good_set(), back]).left_out
    nothing_alike = signs("x", product=direction(0, 0, 1))
    assert faults(pick([*good_set(), nothing_alike])) == {"x": Fault.WRONG_PRODUCT}


def test_the_least_bad_come_back_until_there_are_enough() -> None:
    photos = [
        *good_set(2),
        signs("dark", brightest=0.2),
        signs("soft", blur=0.75),
        signs("softer", blur=0.9),
        signs("x", product=direction(0, 0, 1), picture=direction(0, 0, 1)),
    ]
    # Of six, more than half have to be good for the rest to be odd.
    picks = pick([*photos, signs("a7"), signs("a8")], fewest=6)
    assert [out.key for out in picks.recalled] == ["soft", "softer"]
    assert faults(picks) == {"dark": Fault.EXPOSURE, "x": Fault.WRONG_PRODUCT}
    assert picks.kept == ("a0", "a1", "a7", "a8", "soft", "softer")
    picks = pick([*photos, signs("a7"), signs("a8")], fewest=8)
    assert faults(picks) == {"x": Fault.WRONG_PRODUCT}


def test_of_too_many_those_are_taken_that_differ_most() -> None:
    burst = [signs(f"b{index}", picture=direction(1, 0.02 * index)) for index in range(6)]
    others = [signs("left", picture=direction(1, -1)), signs("right", picture=direction(1, 1))]
    picks = pick([*burst, *others], most=3)
    assert {"left", "right"} < set(picks.kept)
    assert len(picks.kept) == 3
    assert not picks.left_out
    assert "b5" in pick([*burst, *others], most=3, always=["b5"]).kept
    assert pick([*others, *burst], most=3).kept == picks.kept
