"""Which of a product's photos it is learned from, and why the others are left out.

A photo is judged beside the others of its set: what all of them have, a hand, a low-key
light, a soft lens, is how this product is photographed and no fault of one. Verdicts are
taken in the order of :class:`Fault`, and what is left out no longer counts for those that
follow: a copy of a mis-filed photo does not vouch for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from catalog_pipeline.evaluation.photo_signs import PhotoSigns

MAX_COLOUR_DIFFERENCE = 40
"""Of 255, in a picture of 8 x 8: a red and a blue product of one shape are two pictures."""
MIN_BRIGHTEST = 0.4
"""Luma of the brightest hundredth, of white. Four stops too dark: .31; real photos: .60 up."""
MIN_CONTRAST = 0.15
MAX_BURNT_OUT = 0.5
"""Of the product's pixels, more than is usual in the set. Three stops too bright: .51 and more in
9 of 10; cut out on white: .17 at most; rendered products: .18 at most in 49 of 50, .53 in one."""
MAX_CUT = 0.5
"""Pixels on the photo's edge, over the root of the area: a side of a square is 1."""
MAX_ARM = 0.2
MAX_USUAL_SKIN = 0.4
"""Skin in the photos of a product that is held in a shop: .72 and more; of products that stand
about, on wood and brick: .31 at most. Medians of sets; a mask sees the arm in some of them."""
MAX_SECOND = 0.25
FEW = 0.25
"""An arm, a second thing or a cut-off product in more of the photos is usual for the product: a
lamp whose thin rod no mask sees is two things from some sides."""
SAME_PLACE = 0.5
"""Cosine of whole pictures from which a photo passes for one of its set in spite of what stands
out, unless that is as unlike as :data:`NOTHING_ALIKE` of ``min_likeness``: white grounds are all
alike."""
NOTHING_ALIKE = 0.5


class Fault(IntEnum):
    """Why a photo is left out, the most harmful last; the last two never come back."""

    NEAR_DUPLICATE = 1
    CUT_OFF = 2
    BLURRED = 3
    EXPOSURE = 4
    HAND = 5
    SEVERAL = 6
    NOT_FOUND = 7
    WRONG_PRODUCT = 8


@dataclass(frozen=True)
class Limits:
    """From where on a photo is left out; see ``catalogs.yaml: curation``."""

    near_duplicate: float
    max_blur: float
    min_likeness: float


@dataclass(frozen=True)
class LeftOut:
    """A photo that is not learned from: ``degree`` compares photos of one fault, worst highest."""

    key: str
    fault: Fault
    degree: float
    reason: str


@dataclass(frozen=True)
class Picks:
    """``kept`` and ``left_out`` name every photo once; ``recalled`` were left out and came back."""

    kept: tuple[str, ...]
    left_out: Mapping[str, LeftOut]
    recalled: tuple[LeftOut, ...] = ()


def pick_photos(
    signs: Sequence[PhotoSigns],
    limits: Limits,
    *,
    fewest: int,
    most: int,
    preferred: Iterable[str] = (),
    always: Iterable[str] = (),
) -> Picks:
    """Choose the photos of one SKU; deterministic.

    Args:
        signs: of every usable photo, in the order of their names.
        limits: how bad is too bad.
        fewest: of fewer good photos the least bad ones come back, until there are so many.
        most: of more good photos, those are taken that differ most.
        preferred: keys to begin with when ``most`` is passed, such as those spaced by name.
        always: keys that a person chose: taken whatever is wrong, and judged by none.
    """
    chosen = set(always)
    left_out = _judge(signs, limits, chosen)
    good = [one for one in signs if one.key not in left_out]
    back = sorted(
        (out for out in left_out.values() if out.fault < Fault.NOT_FOUND),
        key=lambda out: (out.fault, out.degree, out.key),
    )
    recalled = tuple(back[: max(0, fewest - len(good))])
    for out in recalled:
        del left_out[out.key]
    good = [one for one in signs if one.key not in left_out]
    kept = _most_different(good, most, chosen, set(preferred))
    return Picks(tuple(sorted(kept)), left_out, recalled)


def _judge(signs: Sequence[PhotoSigns], limits: Limits, chosen: set[str]) -> dict[str, LeftOut]:
    """What is wrong with each, the chosen ones apart, in the order in which it is looked for."""
    left_out: dict[str, LeftOut] = {}
    steps: tuple[_Step, ...] = (
        _exposure,
        lambda left: _blurred(left, limits.max_blur),
        lambda left: _near_duplicates(left, limits.near_duplicate, chosen),
        lambda left: _strangers(left, limits.min_likeness),
        _disturbed,
    )
    for step in steps:
        left = [one for one in signs if one.key not in left_out]
        found = {out.key: out for out in step(left) if out.key not in chosen}
        left_out |= found
    return left_out


_Step = Callable[[Sequence[PhotoSigns]], list[LeftOut]]


def _near_duplicates(signs: Sequence[PhotoSigns], limit: float, chosen: set[str]) -> list[LeftOut]:
    """All but the largest of each picture, the sharpest of these; a chosen one stays."""
    order = sorted(
        signs, key=lambda one: (one.key not in chosen, -one.pixels, round(one.blur, 1), one.key)
    )
    kept: list[PhotoSigns] = []
    found = []
    for one in order:
        twin = next((other for other in kept if _same_picture(one, other, limit)), None)
        if twin is None:
            kept.append(one)
            continue
        reason = (
            f"is nearly the same picture as {_name(twin.key)}; delete one, or name it in the "
            "card's use_photos if both matter"
        )
        found.append(LeftOut(one.key, Fault.NEAR_DUPLICATE, -hash_difference(one, twin), reason))
    return found


def _same_picture(one: PhotoSigns, other: PhotoSigns, limit: float) -> bool:
    if hash_difference(one, other) > limit:
        return False
    apart = one.colours - other.colours
    return int(np.abs(apart).max()) <= MAX_COLOUR_DIFFERENCE


def hash_difference(one: PhotoSigns, other: PhotoSigns) -> float:
    """Share of the bits that differ, of either whole and the nearest frame of the other."""
    return float(
        min(
            (one.hashes[0] != other.hashes).mean(axis=1).min(),
            (other.hashes[0] != one.hashes).mean(axis=1).min(),
        )
    )


def _exposure(signs: Sequence[PhotoSigns]) -> list[LeftOut]:
    """Too dark, too bright or without contrast, where most of the set is not."""
    brightest = _usual(signs, lambda one: one.brightest)
    contrast = _usual(signs, lambda one: one.contrast)
    burnt_out = _usual(signs, lambda one: one.burnt_out)
    found = []
    for one in signs:
        if one.brightest < min(MIN_BRIGHTEST, 0.7 * brightest):
            degree = 1 - one.brightest
            reason = (
                f"is too dark (its brightest spots are {one.brightest:.0%} of white; expected "
                f"{MIN_BRIGHTEST:.0%})"
            )
        elif one.contrast < min(MIN_CONTRAST, 0.5 * contrast):
            degree = 1 - one.contrast
            reason = (
                f"has hardly any contrast ({one.contrast:.0%} of white to black; expected "
                f"{MIN_CONTRAST:.0%})"
            )
        elif one.burnt_out > burnt_out + MAX_BURNT_OUT:
            degree = one.burnt_out
            reason = (
                f"is burnt out ({one.burnt_out:.0%} of the product as bright as a photo can be; "
                f"{burnt_out:.0%} is usual in the set)"
            )
        else:
            continue
        reason += "; take it again in other light, or leave it out"
        found.append(LeftOut(one.key, Fault.EXPOSURE, degree, reason))
    return found


def _blurred(signs: Sequence[PhotoSigns], limit: float) -> list[LeftOut]:
    """Blurred by the limit, and clearly more so than the sharper half of the set."""
    usual = _usual(signs, lambda one: one.blur)
    return [
        LeftOut(
            one.key,
            Fault.BLURRED,
            one.blur,
            f"is blurred ({one.blur:.2f} of 1; expected {limit:g} at most, the set's median is "
            f"{usual:.2f}); take it again with a steady camera",
        )
        for one in signs
        if one.blur > max(limit, usual + 0.1)
    ]


def _strangers(signs: Sequence[PhotoSigns], limit: float) -> list[LeftOut]:
    """Photos outside the one group that more than half of the set belongs to.

    Two photos are linked where what stands out in them is alike; a turntable series, the sides
    of which are unlike each other, hangs together by its neighbours.
    """
    if len(signs) < 3:
        return []
    rows = np.stack([one.product for one in signs])
    cosines = rows @ rows.T
    groups = _groups(cosines >= limit)
    main = max(groups, key=lambda group: (len(group), -min(group)))
    if 2 * len(main) <= len(signs):
        return []  # No majority: nobody can say which is the product.
    found = []
    for index, one in enumerate(signs):
        if index in main:
            continue
        likeness = float(max(cosines[index, other] for other in main))
        place = float(max(one.picture @ signs[other].picture for other in main))
        if place >= SAME_PLACE and likeness >= NOTHING_ALIKE * limit:
            continue
        if not one.seen:
            reason = (
                "shows no product that can be told from its surroundings, or none of this kind "
                f"(likeness {likeness:.2f}; expected {limit:g}); use a photo with the product "
                "large and alone"
            )
            found.append(LeftOut(one.key, Fault.NOT_FOUND, -likeness, reason))
        else:
            reason = (
                f"shows something unlike all other photos of the product (likeness {likeness:.2f}; "
                f"expected {limit:g}): another product's photo? Move it, or name it in the card's "
                "use_photos if it is a side seen once"
            )
            found.append(LeftOut(one.key, Fault.WRONG_PRODUCT, -likeness, reason))
    return found


def _disturbed(signs: Sequence[PhotoSigns]) -> list[LeftOut]:
    """An arm, a second thing or a cut-off product, where few of the set have it."""
    held = _usual(signs, lambda one: one.skin) > MAX_USUAL_SKIN

    def in_few(value: Callable[[PhotoSigns], float], limit: float) -> bool:
        # Half of the limit counts: what is nearly there in many photos is usual, too.
        return sum(value(one) > limit / 2 for one in signs) <= FEW * len(signs)

    hand = not held and in_few(lambda one: one.arm, MAX_ARM)
    several = in_few(lambda one: one.second, MAX_SECOND)
    # The arm that holds a product is cut off in every photo.
    cut_off = not held and in_few(lambda one: one.cut, MAX_CUT)
    found = []
    for one in signs:
        if hand and one.arm > MAX_ARM:
            reason = (
                f"shows a hand or an arm ({one.arm:.0%} of what stands out); use a photo without"
            )
            found.append(LeftOut(one.key, Fault.HAND, one.arm, reason))
        elif several and one.second > MAX_SECOND:
            reason = (
                f"shows several things (the second is {one.second:.0%} as large as the first); use "
                "a photo of the product alone"
            )
            found.append(LeftOut(one.key, Fault.SEVERAL, one.second, reason))
        elif cut_off and one.seen and one.cut > MAX_CUT:
            reason = (
                "shows the product cut off by the edge of the photo; use one with the whole "
                "product, or name it in the card's use_photos if the detail matters"
            )
            found.append(LeftOut(one.key, Fault.CUT_OFF, one.cut, reason))
    return found


def _most_different(
    good: Sequence[PhotoSigns], most: int, chosen: set[str], preferred: set[str]
) -> list[str]:
    """Farthest-point choice over whole pictures, begun with the chosen ones."""
    if len(good) <= most:
        return [one.key for one in good]
    rows = np.stack([one.picture for one in good])
    keys = [one.key for one in good]
    picked = [place for place, key in enumerate(keys) if key in chosen][:most]
    if not picked:
        middle = rows @ rows.mean(axis=0)
        picked = [int(np.argmax(middle))]  # The most usual view.
    nearest = (rows @ rows[picked].T).max(axis=1)
    while len(picked) < most:
        # Of views that differ as much, to a hundredth, one that was spaced by name.
        rank = np.round(nearest, 2) - 0.001 * np.array([key in preferred for key in keys])
        rank[picked] = np.inf
        picked.append(int(np.argmin(rank)))
        nearest = np.maximum(nearest, rows @ rows[picked[-1]])
    return [keys[place] for place in picked]


def _usual(signs: Sequence[PhotoSigns], value: Callable[[PhotoSigns], float]) -> float:
    """What is usual in the set: the median; of an even number the lower one of the two."""
    values = sorted(value(one) for one in signs)
    return values[(len(values) - 1) // 2] if values else 0.0


def _groups(linked: npt.NDArray[np.bool_]) -> list[set[int]]:
    """Connected components of a symmetric relation."""
    groups: list[set[int]] = []
    for index in range(len(linked)):
        joined = {index}
        apart = []
        for group in groups:
            if any(linked[index, other] for other in group):
                joined |= group
            else:
                apart.append(group)
        groups = [*apart, joined]
    return groups


def _name(key: str) -> str:
    return key.rpartition("/")[2]
