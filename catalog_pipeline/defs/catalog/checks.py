"""``photo_set_is_usable``."""

import dagster as dg

from catalog_pipeline.defs.catalog.assets import INDEX_KEY, PHOTO_SET_KEY
from catalog_pipeline.defs.metadata import table
from catalog_pipeline.defs.resources import PipelineResource


@dg.asset_check(asset=PHOTO_SET_KEY, additional_deps=[INDEX_KEY])
def photo_set_is_usable(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Every product in the catalog has a photo set that can be learned.

    One result over the whole catalog, because check results carry no partition: the
    gate of a single SKU is inside the step that learns it. A warning, never a
    stop: one bad product must not hold up the others. Read by photographers.
    """
    from catalog_pipeline.workflows.upkeep.claims import unusable_products

    unusable, products = unusable_products(pipeline.opened)
    return dg.AssetCheckResult(
        passed=not unusable,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(unusable)} of {products} products cannot be learned as they are",
        metadata={
            "unusable": table(
                [{"sku": sku, "reason": reason} for sku, reason in unusable.items()],
                {"sku": "string", "reason": "string"},
            )
        },
    )
