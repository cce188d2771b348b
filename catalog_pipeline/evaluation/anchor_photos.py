"""Which photos can stand in scenes: the product alone, whole, sharp, its mask sure.

One photo is judged by itself (does the network see the same thing four times, does it end
before the photo does), then against the others of its set, since what a mask took along, a
rock or a sleeve, is in one photo and not in the next. Precision goes before recall: a SKU
without a photo that passes is rendered as learned, a wrong cut-out is published.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import binary_dilation, laplace
from skimage.color import rgb2lab

from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.foreign_colours import (
    NO_COLOURS,
    Surrounded,
    foreign_share,
    surrounded,
)
from catalog_pipeline.evaluation.matting import Inside, Looks, box_of, look_again
from catalog_pipeline.evaluation.palettes import OPAQUE
from catalog_pipeline.evaluation.product_mask import ProductMasker, judged
from catalog_pipeline.records import JudgedPhoto, Photo, Pixels, Region, names_photo

MIN_AGREEMENT = 0.95
"""Of four looks at a photo, the smallest intersection over union with their middle."""
MAX_DISPUTED = 0.025
"""Largest piece that one look takes in and most leave out, of the mask's area."""
MAX_FOREIGN = 0.015
"""Of the product's pixels, in a colour that only this photo's surroundings have."""
MIN_LIKENESS = 0.35
"""Cosine to the most alike of the other photos. Real products: .59 and more;
what was cut out of other products' photos: .25 and less in 19 of 20."""
MAX_CUT = 0.1
"""Pixels of the mask on the photo's edge, over the square root of its area."""
MIN_SIDE_PX = 48
MIN_SHARPNESS = 0.3
"""Of the set's median."""
MIN_COMPANY = 0.25
"""Of a set's photos, how many must pass by themselves, two at least."""
NOTHING_SEEN = "no product is seen in it"
_EDGE_PX = 3
_SHARPNESS_PX = 128


@dataclass(frozen=True)
class _Seen:
    photo: Photo
    looks: Looks
    inside: Inside
    reason: str
    colours: Surrounded = NO_COLOURS
    feature: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    sharpness: float = 0.0


def judge_photos(
    photos: Sequence[Photo],
    masker: ProductMasker,
    encoder: FeatureEncoder,
    *,
    allowed: Collection[str] | None = None,
) -> list[JudgedPhoto]:
    """Judge the photos of one SKU, in their order; deterministic.

    Args:
        photos: the whole set: what is odd about one shows beside the others.
        allowed: file names, or names without suffix, that a card gives; those are used
            wherever a product is seen at all, since a person chose them, and no others.
    """
    seen = [_look(photo, masker, encoder) for photo in photos]
    if allowed is None:
        reasons = _beside_the_others(seen)
    else:
        reasons = [_by_name(one, allowed) for one in seen]
    return [_judged(one, reason) for one, reason in zip(seen, reasons, strict=True)]


def _by_name(one: _Seen, allowed: Collection[str]) -> str:
    if not any(names_photo(name, one.photo.key) for name in allowed):
        return "is not among the card's anchor_photos"
    return _too_small(one.inside)


def _look(photo: Photo, masker: ProductMasker, encoder: FeatureEncoder) -> _Seen:
    """One photo by itself."""
    looks = look_again(photo, masker)
    inside: Inside = looks.mask >= OPAQUE
    if not inside.any():
        return _Seen(photo, looks, inside, NOTHING_SEEN)
    crop = _on_grey(photo.pixels, looks.mask)
    return _Seen(
        photo, looks, inside, _alone(photo, looks, inside), surrounded(photo.pixels, looks.mask),
        encoder.encode([crop])[0], _sharpness(crop),
    )  # fmt: skip


def _too_small(inside: Inside) -> str:
    if not inside.any():
        return NOTHING_SEEN
    height, width = (part.stop - part.start for part in box_of(inside, 0))
    if max(height, width) >= MIN_SIDE_PX:
        return ""
    return f"the product is {width} x {height} px; expected {MIN_SIDE_PX} on its longer side"


def _alone(photo: Photo, looks: Looks, inside: Inside) -> str:
    if photo.mask is not None:
        return _too_small(inside)
    verdict = judged(looks.mask)
    if not verdict.usable:
        return f"the product's mask {verdict.reason}"
    if _cut(inside) > MAX_CUT:
        return "the product, or what holds it, is cut off by the edge of the photo"
    if looks.agreement < MIN_AGREEMENT:
        return (
            f"what is seen as the product changes from look to look (agreement "
            f"{looks.agreement:.3f}; expected {MIN_AGREEMENT}): a hand, a neighbour or a "
            "background of its colour"
        )
    if looks.disputed > MAX_DISPUTED:
        return (
            f"a piece of {looks.disputed:.1%} of the product is seen in one look and not in the "
            f"others (expected {MAX_DISPUTED:.1%} at most): a pale part on a pale floor, or a "
            "thing that touches the product"
        )
    return _too_small(inside)


def _beside_the_others(seen: Sequence[_Seen]) -> list[str]:
    """Reasons of all, with those that show beside the other photos of the set."""
    good = [one for one in seen if not one.reason]
    if len(good) < max(2, MIN_COMPANY * len(seen)):
        alone = (
            f"only {len(good)} of {len(seen)} photos show the product surely: nothing to compare "
            "this one with"
        )
        return [one.reason or (alone if one.photo.mask is None else "") for one in seen]
    return [one.reason or _odd(one, good, seen) for one in seen]


def _odd(one: _Seen, good: Sequence[_Seen], seen: Sequence[_Seen]) -> str:
    """What is wrong with a photo, good by itself, beside the other good ones and all."""
    sharp = float(np.median([other.sharpness for other in good]))
    if one.sharpness < MIN_SHARPNESS * sharp:
        share = one.sharpness / sharp
        return f"is blurred ({share:.0%} as sharp as its set; expected {MIN_SHARPNESS:.0%})"
    if one.photo.mask is not None:
        return ""
    known = [other.feature for other in good if other is not one]
    likeness = float((np.stack(known) @ one.feature).max())
    if likeness < MIN_LIKENESS:
        return (
            f"what stands out in it is like no other photo of the product (likeness "
            f"{likeness:.2f}; expected {MIN_LIKENESS}): another thing, or a side seen once"
        )
    share = foreign_share(one.colours, [other.colours for other in seen if other is not one])
    if share > MAX_FOREIGN:
        return (
            f"{share:.1%} of the product has a colour of its surroundings and of none of its "
            f"other photos (expected {MAX_FOREIGN:.1%} at most): grass before it, a reflection"
        )
    return ""


def _judged(one: _Seen, reason: str) -> JudgedPhoto:
    if not one.inside.any():
        return JudgedPhoto(one.photo.key, one.photo.sha256, reason)
    rows, columns = box_of(one.inside, 0)
    high, wide = one.inside.shape
    seen = Region(columns.start / wide, rows.start / high, columns.stop / wide, rows.stop / high)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    outside = one.photo.pixels[~binary_dilation(one.inside, iterations=3)]
    light = (0.0, 0.0, 0.0)
    if len(outside) and one.photo.mask is None:
        lightness, red, yellow = (float(v) for v in rgb2lab(outside[None]).mean(axis=(0, 1)))
        light = (lightness, red, yellow)
    return JudgedPhoto(one.photo.key, one.photo.sha256, reason, width / height, height, light, seen)


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
