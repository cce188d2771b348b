"""Which photos can stand in scenes: the product alone, whole, sharp, its mask sure.

One photo is judged by itself (does the network see the same thing four times, does it end
before the photo does), then against the others of its set, since what a mask took along, a
rock or a sleeve, is in one photo and not in the next. Precision goes before recall: a SKU
without a photo that passes is rendered as learned, a wrong cut-out is published.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import binary_dilation, laplace
from skimage.color import rgb2lab

from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.foreign_colours import Surrounded, foreign_share, surrounded
from catalog_pipeline.evaluation.matting import Inside, Looks, box_of, look_again
from catalog_pipeline.evaluation.palettes import OPAQUE
from catalog_pipeline.evaluation.product_mask import ProductMasker, judged
from catalog_pipeline.records import Features, JudgedPhoto, Photo, Pixels

MIN_AGREEMENT = 0.92
"""Of four looks at a photo, the smallest intersection over union with their middle."""
MAX_DISPUTED = 0.025
"""Largest piece that one look takes in and most leave out, of the mask's area."""
MAX_FOREIGN = 0.015
"""Of the product's pixels, in a colour that only this photo's surroundings have."""
MAX_CUT = 0.1
"""Pixels of the mask on the photo's edge, over the square root of its area."""
MIN_SIDE_PX = 48
MIN_SHARPNESS = 0.3
"""Of the set's median."""
MIN_COMPANY = 0.25
"""Of a set's photos, how many must pass by themselves, two at least."""
_EDGE_PX = 3
_SHARPNESS_PX = 128


@dataclass(frozen=True)
class _Seen:
    photo: Photo
    looks: Looks
    inside: Inside
    reason: str
    colours: Surrounded | None = None
    feature: npt.NDArray[np.float32] | None = None
    sharpness: float = 0.0


def judge_photos(
    photos: Sequence[Photo],
    masker: ProductMasker,
    encoder: FeatureEncoder,
    *,
    remembered: Features | None = None,
    allowed: Collection[str] | None = None,
) -> list[JudgedPhoto]:
    """Judge the photos of one SKU, in their order; deterministic.

    Args:
        photos: the whole set: what is odd about one shows beside the others.
        remembered: features of the product from its memory, ``(n, encoder.width)``.
        allowed: file names, or names without suffix, that a card gives; those are used
            wherever a product is seen at all, since a person chose them, and no others.
    """
    seen = [_look(photo, masker, encoder) for photo in photos]
    reasons = [one.reason for one in seen]
    if allowed is not None:
        reasons = [
            ("" if one.inside.any() else one.reason) if _named(one.photo, allowed)
            else "is not among the card's anchor_photos"
            for one in seen
        ]  # fmt: skip
    else:
        reasons = _beside_the_others(seen, reasons, remembered)
    return [_judged(one, reason) for one, reason in zip(seen, reasons, strict=True)]


def _named(photo: Photo, allowed: Collection[str]) -> bool:
    path = PurePosixPath(photo.key)
    return path.name in allowed or path.stem in allowed


def _look(photo: Photo, masker: ProductMasker, encoder: FeatureEncoder) -> _Seen:
    """One photo by itself."""
    looks = look_again(photo, masker)
    inside: Inside = looks.mask >= OPAQUE
    if not inside.any():
        return _Seen(photo, looks, inside, "no product is seen in it")
    reason = _alone(photo, looks, inside)
    crop = _on_grey(photo.pixels, looks.mask)
    return _Seen(
        photo, looks, inside, reason, surrounded(photo.pixels, looks.mask),
        encoder.encode([crop])[0], _sharpness(crop),
    )  # fmt: skip


def _alone(photo: Photo, looks: Looks, inside: Inside) -> str:
    if photo.mask is None:
        verdict = judged(looks.mask)
        if not verdict.usable:
            return f"the product's mask {verdict.reason}"
        if looks.agreement < MIN_AGREEMENT:
            return (
                f"what is seen as the product changes from look to look (agreement "
                f"{looks.agreement:.2f}; expected {MIN_AGREEMENT}): a hand, a neighbour or a "
                "background of its colour"
            )
        if looks.disputed > MAX_DISPUTED:
            return (
                f"a piece of {looks.disputed:.1%} of the product is seen in one look and not in "
                f"the others (expected {MAX_DISPUTED:.1%} at most): something pale on a pale "
                "floor, or a thing that touches the product"
            )
    height, width = (part.stop - part.start for part in box_of(inside, 0))
    if max(height, width) < MIN_SIDE_PX:
        return f"the product is {width} x {height} px; expected {MIN_SIDE_PX} on its longer side"
    if photo.mask is None and _cut(inside) > MAX_CUT:
        return "the product, or what holds it, is cut off by the edge of the photo"
    return ""


def _beside_the_others(
    seen: Sequence[_Seen], reasons: Sequence[str], remembered: Features | None
) -> list[str]:
    """Reasons, with those that show beside the other photos of the set."""
    good = [place for place, reason in enumerate(reasons) if not reason]
    estimated = [place for place in good if seen[place].photo.mask is None]
    found = list(reasons)
    if estimated and len(good) < max(2, MIN_COMPANY * len(seen)):
        for place in estimated:
            found[place] = (
                f"only {len(good)} of {len(seen)} photos show the product surely: nothing to "
                "compare this one with"
            )
        return found
    sharp = float(np.median([seen[place].sharpness for place in good])) if good else 0.0
    for place in good:
        if seen[place].sharpness < MIN_SHARPNESS * sharp:
            found[place] = (
                f"is blurred (sharpness {seen[place].sharpness / sharp:.0%} of the set's median; "
                f"expected {MIN_SHARPNESS:.0%})"
            )
        elif seen[place].photo.mask is None and (share := _foreign(seen, place)) > MAX_FOREIGN:
            found[place] = (
                f"{share:.1%} of the product has a colour of its surroundings that it has in no "
                f"other photo (expected {MAX_FOREIGN:.1%} at most): grass before it, a reflection"
            )
    return found


def _foreign(seen: Sequence[_Seen], place: int) -> float:
    one = seen[place].colours
    others = [other.colours for at, other in enumerate(seen) if at != place and other.colours]
    return foreign_share(one, others) if one else 0.0


def _judged(one: _Seen, reason: str) -> JudgedPhoto:
    if not one.inside.any():
        return JudgedPhoto(one.photo.key, one.photo.sha256, reason)
    height, width = (part.stop - part.start for part in box_of(one.inside, 0))
    outside = one.photo.pixels[~binary_dilation(one.inside, iterations=3)]
    light = (0.0, 0.0, 0.0)
    if len(outside) and one.photo.mask is None:
        lightness, red, yellow = (float(v) for v in rgb2lab(outside[None]).mean(axis=(0, 1)))
        light = (lightness, red, yellow)
    return JudgedPhoto(one.photo.key, one.photo.sha256, reason, width / height, height, light)


def _cut(inside: Inside) -> float:
    edge = inside.copy()
    edge[_EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX] = False
    return float(edge.sum() / _EDGE_PX / np.sqrt(inside.sum()))


def _on_grey(pixels: Pixels, mask: npt.NDArray[np.uint8]) -> Pixels:
    """The product on middle grey, cropped to a square around it."""
    box = box_of(mask >= OPAQUE, 0.05)
    opacity = mask[box][..., None] / 255.0
    return np.rint(pixels[box] * opacity + 128 * (1 - opacity)).astype(np.uint8)


def _sharpness(crop: Pixels) -> float:
    """Standard deviation of the Laplacian at one size (Pertuz et al. 2013, LAPV)."""
    image = Image.fromarray(crop).convert("L")
    scale = _SHARPNESS_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return float(laplace(np.asarray(image.resize(size), dtype=np.float64)).std())
