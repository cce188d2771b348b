"""How tall products are, and the boxes that they fill in a picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from catalog_pipeline.records import ProductPhotos, Region

USUAL_HEIGHT_CM: Mapping[str, float] = {
    **dict.fromkeys(("ring", "coin", "earring"), 2),
    **dict.fromkeys(("mouse", "watch", "soap", "bowl", "plate", "saucer", "duck"), 6),
    **dict.fromkeys(("mug", "cup", "candle", "jar", "can", "glass", "egg", "apple", "ball"), 10),
    **dict.fromkeys(("sneaker", "shoe", "camera", "clock", "kettle", "teapot", "hat"), 15),
    **dict.fromkeys(("carton", "book", "bottle", "toy", "vase", "headphones", "box"), 24),
    **dict.fromkeys(("plush", "plushie", "animal", "bear", "doll", "bag", "boot"), 28),
    **dict.fromkeys(("backpack", "lamp", "basket", "stool", "umbrella", "plant", "monitor"), 45),
    **dict.fromkeys(("chair", "table", "suitcase", "armchair", "desk", "guitar", "tv"), 85),
    **dict.fromkeys(("sofa", "bicycle", "bench", "dresser", "bed"), 95),
    **dict.fromkeys(("cabinet", "bookcase", "wardrobe", "refrigerator", "door", "shelf"), 180),
}
"""Height by the last word of a class noun that is here, for cards without a size."""
OTHER_HEIGHT_CM = 25.0

MAX_HEIGHT, MAX_WIDTH = 0.72, 0.88
"""Most that a product takes of the picture's height and of its region's width."""
MIN_SHARE = 0.3
"""Least height of a product over that of the tallest beside it: a ring beside a wardrobe is
still to be seen."""
GROUND = 0.9
"""Where products stand, as a share of the picture's height."""


def height_of(product: ProductPhotos, class_noun: str, aspect: float) -> float:
    """Centimetres: from the card's height, else from its width, else what the noun is usually.

    ``aspect`` is width over height of the product in its photo.
    """
    if product.height_cm:
        return product.height_cm
    if product.width_cm:
        return product.width_cm / aspect
    words = [word.rstrip("s") for word in class_noun.split()] + class_noun.split()
    known = [USUAL_HEIGHT_CM[word] for word in reversed(words) if word in USUAL_HEIGHT_CM]
    return known[0] if known else OTHER_HEIGHT_CM


def fit_boxes(
    heights_cm: Sequence[float],
    aspects: Sequence[float],
    regions: Sequence[Region],
    *,
    picture_aspect: float,
) -> list[Region]:
    """A box for each product, in its region, in true proportion, as large as all can be.

    Heights that differ by more than :data:`MIN_SHARE` allows are drawn together by a power,
    so that their order stays.

    Args:
        heights_cm: of the products.
        aspects: width over height of each.
        regions: where each stands.
        picture_aspect: width over height of the picture.
    """
    tallest, least = max(heights_cm), min(heights_cm) / max(heights_cm)
    power = 1.0 if least >= MIN_SHARE else log(MIN_SHARE) / log(least)
    shares = [(height / tallest) ** power for height in heights_cm]
    # In units of the picture's height; a region is (right - left) * picture_aspect wide.
    scale = min(
        min(
            MAX_HEIGHT * (region.bottom - region.top) / share,
            MAX_WIDTH * (region.right - region.left) * picture_aspect / (share * aspect),
        )
        for share, aspect, region in zip(shares, aspects, regions, strict=True)
    )
    boxes = []
    for share, aspect, region in zip(shares, aspects, regions, strict=True):
        high, wide = scale * share, scale * share * aspect / picture_aspect
        centre = (region.left + region.right) / 2
        ground = region.top + GROUND * (region.bottom - region.top)
        boxes.append(Region(centre - wide / 2, ground - high, centre + wide / 2, ground))
    return boxes
