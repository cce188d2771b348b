"""What the judges see of a product's pictures: each one whole, and the product alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.learned_looks import products_alone
from catalog_pipeline.evaluation.product_crops import alone_on_white
from catalog_pipeline.evaluation.product_mask import ProductMask, ProductMasker
from catalog_pipeline.records import Features, Pixels


@dataclass(frozen=True)
class Looks:
    """Features of the pictures of one product by encoder, ``(pictures, width)``.

    ``whole`` are of the pictures as they are, ``crops`` of what stands out in them, alone on
    white, as the product's photos are cut out.
    """

    whole: Mapping[str, Features]
    crops: Mapping[str, Features]


class RememberingMasker(ProductMasker):
    """Masks a picture once: methods that forget nothing paint the same one after every task."""

    def __init__(self, masker: ProductMasker) -> None:
        self._masker = masker
        self._found: dict[str, ProductMask] = {}

    def mask(self, pixels: Pixels) -> ProductMask:
        """As the masker within."""
        key = f"{pixels.shape} {hashlib.sha256(pixels.tobytes()).hexdigest()}"
        if key not in self._found:
            self._found[key] = self._masker.mask(pixels)
        return self._found[key]


def look_at(
    pictures: Sequence[Pixels], encoders: Mapping[str, FeatureEncoder], masker: ProductMasker
) -> Looks:
    """Encode ``pictures`` and the products in them, all at once."""
    alone = [alone_on_white(*view) for view in products_alone(pictures, masker)]
    return Looks(
        whole={name: encoder.encode(pictures) for name, encoder in encoders.items()},
        crops={name: encoder.encode(alone) for name, encoder in encoders.items()},
    )
