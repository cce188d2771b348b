"""Squares of one colour as products, and small judges that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from catalog_pipeline.evaluation.learned_looks import photos_alone
from catalog_pipeline.evaluation.product_crops import alone_on_white
from catalog_pipeline.evaluation.product_mask import ProductMask, ProductMasker, judged
from catalog_pipeline.records import Features, Photo, Pixels
from tests.benchmarks.learning.products import Product

Colour = tuple[int, int, int]
RED, BLUE, SAND, GREEN = (200, 30, 30), (30, 30, 200), (220, 200, 160), (40, 150, 60)


class ColourEncoder:
    """Coarse colours as features: a small encoder that tells the tiny products apart."""

    def __init__(self, name: str, side_px: int) -> None:
        self.name, self._side_px = name, side_px
        self.width = 3 * side_px**2

    def encode(self, images: Sequence[Pixels]) -> Features:
        side = (self._side_px, self._side_px)
        rows = [np.asarray(Image.fromarray(i).resize(side, Image.Resampling.BOX)) for i in images]
        flat = np.stack(rows).reshape(len(rows), -1).astype(np.float32) - 127.5
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


class BorderMasker(ProductMasker):
    """A product is what has another colour than the picture's border."""

    def __init__(self) -> None:
        """Opens no network."""

    def mask(self, pixels: Pixels) -> ProductMask:
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean(0)
        product = np.abs(pixels - border).max(2) > 40
        return judged(np.where(product, 255, 0).astype(np.uint8))


def picture(floor: Colour, product: Colour | None, left: int = 20) -> Pixels:
    """A square of one colour on a floor of another, or the floor alone."""
    pixels = np.full((64, 64, 3), floor, np.uint8)
    if product is not None:
        pixels[20:44, left : left + 24] = product
    return pixels


def seen_product(encoders, floor: Colour, color: Colour, sku: str, noun: str, *, masks: int = 3):
    """A product with three photos on ``floor``, so many of them with a mask."""
    pictures = [picture(floor, color, left) for left in (16, 20, 24)]
    found = [BorderMasker().mask(pixels).mask for pixels in pictures]
    photos = tuple(
        Photo(f"{sku}/{i}", "", pixels, mask if i < masks else None)
        for i, (pixels, mask) in enumerate(zip(pictures, found, strict=True))
    )
    alone = [alone_on_white(*view) for view in photos_alone(photos)]
    return Product(
        *(sku, sku, noun, "", photos),
        features={name: encoder.encode(pictures) for name, encoder in encoders.items()},
        crops={name: encoder.encode(alone) for name, encoder in encoders.items() if alone},
    )
