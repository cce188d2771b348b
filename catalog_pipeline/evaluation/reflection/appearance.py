"""A picture taken apart for the reflection score: what stands in each region, and views of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from catalog_pipeline.evaluation.product_mask import MAX_AREA, MIN_AREA
from catalog_pipeline.evaluation.reflection.regions import (
    RegionProducts,
    close_box,
    crop,
    products_by_region,
    region_box,
)
from catalog_pipeline.records import Pixels, Region

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.product_mask import ProductMasker

MIN_CONTRAST = 6.0
"""Least standard deviation of the luminance (0..255) of a picture that shows something."""
MIN_ONE_PIECE = 0.6
"""Of a region's mask on a second look, how much one piece must hold to be a product."""


@dataclass(frozen=True, eq=False)
class PictureLook:
    """One picture taken apart: ``views[region]`` are the crops to compare with photos.

    A region in which nothing stands has no views.
    """

    picture: Pixels
    products: list[RegionProducts]
    views: list[list[Pixels]]
    sharpness: float
    blank: bool


def look_at(picture: Pixels, regions: Sequence[Region], masker: ProductMasker) -> PictureLook:
    """Find the products of ``picture``, cut out the views of each region, measure the rest.

    Views: the planned region, the product's surroundings, and the product alone on white.
    """
    gray = picture.astype(np.float64) @ (0.299, 0.587, 0.114)
    blank = bool(gray.std() < MIN_CONTRAST)
    # The masker stretches whatever contrast there is, so it would find a product in noise.
    products = [] if blank else find_products(picture, regions, masker)
    views = [
        _views(picture, region, found) for region, found in zip(regions, products, strict=False)
    ]
    return PictureLook(picture, products, views, sharpness_of(gray), blank)


def find_products(
    picture: Pixels, regions: Sequence[Region], masker: ProductMasker
) -> list[RegionProducts]:
    """Salient pieces by region; a region without one is looked at once more on its own.

    Of two products the masker may see the more salient one only.
    """
    height, width = picture.shape[:2]
    mask = masker.mask(picture).mask
    found = products_by_region(mask, regions)
    again = [i for i, products in enumerate(found) if products.empty and not products.taken]
    if not again or len(regions) == 1:
        return found
    mask = mask.copy()
    for index in again:
        left, top, right, bottom = region_box(regions[index], width, height)
        alone = masker.mask(picture[top:bottom, left:right])
        if MIN_AREA <= alone.area <= MAX_AREA and alone.largest_share >= MIN_ONE_PIECE:
            part = mask[top:bottom, left:right]
            np.maximum(part, alone.mask, out=part)
    return products_by_region(mask, regions)


def _views(picture: Pixels, region: Region, products: RegionProducts) -> list[Pixels]:
    if products.empty:
        return []
    height, width = picture.shape[:2]
    close = close_box(products, region, width, height)
    alone = np.where(products.inside[..., None], picture, np.uint8(255))
    planned = region_box(region, width, height)
    return [crop(picture, planned), crop(picture, close), crop(alone, close)]


def sharpness_of(gray: npt.NDArray[np.float64]) -> float:
    """Variance of the 4-neighbour Laplacian of ``gray``, ``(height, width)``."""
    inner = gray[1:-1, 1:-1]
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float(np.var(around - 4 * inner)) if inner.size else 0.0
