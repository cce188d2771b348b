"""Write the sample catalog: eight products that the embedded base model has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from catalog_pipeline.studio import sample_catalog as studio


def write_sample_catalog(directory: Path, skus: Sequence[str] | None = None) -> list[str]:
    """Write sample SKU folders below ``directory`` and return their keys.

    Deterministic and repeatable: see
    :func:`catalog_pipeline.studio.sample_catalog.write_sample_catalog`.

    Args:
        directory: root of the catalog; made where absent.
        skus: only these of the sample's SKUs; ``None`` for all eight.

    Raises:
        InvalidSkuError: a key that the sample catalog does not have.
        CatalogError: a target folder holds other files, or a changed sample file.
    """
    return studio.write_sample_catalog(directory, skus)
