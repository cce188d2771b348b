"""``photo_set_is_usable``."""

import dagster as dg

from catalog_pipeline.defs.catalog.assets import INDEX_KEY, PHOTO_SET_KEY
from catalog_pipeline.defs.metadata import table
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.records import SkuStatus


@dg.asset_check(asset=PHOTO_SET_KEY, additional_deps=[INDEX_KEY])
def photo_set_is_usable(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Every product in the catalog has a photo set that can be learned.

    One result over the whole catalog, because check results carry no partition: the
    gate of a single SKU is inside the step that learns it. A warning, never a
    stop: one bad product must not hold up the others. Read by photographers.
    """
    from catalog_pipeline.workflows.home import open_home

    settings = pipeline.settings()
    rows = [row for row in open_home(settings).index.read() if row.status is not SkuStatus.RETIRED]
    few = settings.catalog.min_photos
    unusable = {
        row.sku: row.reason or f"{row.photo_count} photos, expected at least {few}"
        for row in rows
        if row.status is SkuStatus.FAILED or row.photo_count < few
    }
    return dg.AssetCheckResult(
        passed=not unusable,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(unusable)} of {len(rows)} products cannot be learned as they are",
        metadata={
            "unusable": table(
                [{"sku": sku, "reason": reason} for sku, reason in sorted(unusable.items())],
                {"sku": "string", "reason": "string"},
            )
        },
    )
