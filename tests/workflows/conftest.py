"""The painted photos of these tests return in most of them; one network looks at each once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

_MASKS: dict[tuple[tuple[int, ...], bytes], npt.NDArray[np.uint8]] = {}


@pytest.fixture(autouse=True, scope="package")
def _masks_are_estimated_once() -> Iterator[None]:
    from catalog_pipeline.evaluation.product_mask import ProductMasker

    estimate = ProductMasker._saliency

    def remembered(self: ProductMasker, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        key = (pixels.shape, pixels.tobytes())
        if key not in _MASKS:
            _MASKS[key] = estimate(self, pixels)
        return _MASKS[key].copy()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ProductMasker, "_saliency", remembered)
        yield
