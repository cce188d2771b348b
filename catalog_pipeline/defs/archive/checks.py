"""``archive_has_unique_image_ids``."""

import dagster as dg

from catalog_pipeline.defs.archive.assets import SUMMARY_KEY
from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.labels import check_labels
from catalog_pipeline.defs.metadata import table
from catalog_pipeline.defs.resources import PipelineResource


@dg.asset_check(asset=SUMMARY_KEY, **check_labels("archive", kinds={"duckdb"}))
@fails_in_one_line
def archive_has_unique_image_ids(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """No picture id appears twice in the archive, within a night or across nights.

    **Grain:** one result over all nights. **Partition:** none. **Read by:** operators.
    """
    from catalog_pipeline.workflows.upkeep.archive_summary import repeated_image_ids

    repeated = repeated_image_ids(pipeline.opened)
    return dg.AssetCheckResult(
        passed=not repeated,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{len(repeated)} image ids appear more than once",
        metadata={
            "repeated": table(repeated, {"image_id": "string", "rows": "int", "days": "string"})
        },
    )
