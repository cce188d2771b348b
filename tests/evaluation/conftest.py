"""One mask network for all tests of a session."""

from __future__ import annotations

import pytest

from catalog_pipeline.evaluation.product_mask import ProductMasker


@pytest.fixture(scope="session")
def masker() -> ProductMasker:
    return ProductMasker()
