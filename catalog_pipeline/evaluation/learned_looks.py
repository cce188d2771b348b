"""A learned product beside its photos: what stands out in a picture, its looks and colours.

The background is off on both sides: photos of one product share their floors and walls, and
pictures that have the floor right look like them whatever stands on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from catalog_pipeline.evaluation.palettes import (
    OPAQUE,
    mean_palette,
    palette_distance,
    palette_of,
    palette_spread,
)
from catalog_pipeline.evaluation.product_crops import Inside, alone_on_white, product_box
from catalog_pipeline.evaluation.retention import cosine_to_photos, fidelity_share, photo_ceiling
from catalog_pipeline.records import Palette, Photo, Pixels

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder
    from catalog_pipeline.evaluation.product_mask import ProductMasker

View = tuple[Pixels, Inside]
"""A picture ``(height, width, 3)`` and where the product is in it, ``(height, width)``."""

FEWEST_CROPS = 2
"""Photos with a mask, to say how much a product's own photos differ; of one photo, that one."""


@dataclass(frozen=True)
class LearnedLooks:
    """Pictures of a product against its photos, crop by crop.

    ``likeness`` is the mean feature cosine of crops of pictures to crops of photos,
    ``ceiling`` that of the photos' crops among themselves. ``color_difference`` is how far
    the colours of a picture are from those of the photos, ``color_spread`` how far those of
    a photo are from those of the others; both are medians, in CIELAB units.
    """

    likeness: float
    ceiling: float
    color_difference: float
    color_spread: float

    @property
    def share(self) -> float:
        """``likeness / ceiling``; 1 = as alike as one more photo."""
        return fidelity_share(self.likeness, self.ceiling)

    @property
    def color_shift(self) -> float:
        """How much further from the photos the colours are than these are from each other."""
        return self.color_difference - self.color_spread


def compare_looks(
    pictures: Sequence[Pixels],
    photos: Sequence[Photo],
    masker: ProductMasker,
    encoder: FeatureEncoder,
) -> LearnedLooks | None:
    """Measure ``pictures``, at least one; ``None`` where too few photos have a mask.

    Args:
        pictures: of the product alone, each ``(height, width, 3)``.
        photos: of the same product; those without a mask are left out.
        masker: finds the product in the pictures.
        encoder: of the features.
    """
    own = photos_alone(photos)
    if not own:
        return None
    seen = products_alone(pictures, masker)
    features = encoder.encode([alone_on_white(*view) for view in (*own, *seen)])
    palettes = [palette_of(*view) for view in own]
    return LearnedLooks(
        likeness=cosine_to_photos(features[len(own) :], features[: len(own)]),
        ceiling=photo_ceiling(features[: len(own)]),
        color_difference=float(np.median(color_differences(seen, mean_palette(palettes)))),
        color_spread=palette_spread(palettes),
    )


def color_differences(seen: Sequence[View], palette: Palette) -> list[float]:
    """Of each view to ``palette``, the mean of the product's photos, in CIELAB units."""
    return [palette_distance(palette_of(*view), palette) for view in seen]


def photos_alone(photos: Sequence[Photo]) -> list[View]:
    """The photos with a mask and where the product is in them; none where too few have one."""
    masked = [(photo.pixels, photo.mask >= OPAQUE) for photo in photos if photo.mask is not None]
    views = [view for view in masked if view[1].any()]
    return views if len(views) >= min(FEWEST_CROPS, len(photos)) else []


def products_alone(pictures: Sequence[Pixels], masker: ProductMasker) -> list[View]:
    """Pictures of one product each and where it is; all of one in which nothing stands out.

    Of a mask that cannot be believed only its box is: of a white mug on a pale floor the
    network may see the print alone.
    """
    views: list[View] = []
    for picture in pictures:
        found = masker.mask(picture)
        inside: Inside = found.mask >= OPAQUE
        if not inside.any():
            inside = np.ones_like(inside)
        elif not found.usable:
            box = product_box(inside)
            inside = np.zeros_like(inside)
            inside[box] = True
        views.append((picture, inside))
    return views
