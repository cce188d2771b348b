"""``refresh_catalog``: list the folders and say which sets are unusable."""

import dagster as dg

from catalog_pipeline.defs.catalog.index_report import INDEX_KEY
from catalog_pipeline.defs.labels import job_labels

refresh_catalog = dg.define_asset_job(
    "refresh_catalog",
    selection=dg.AssetSelection.assets(INDEX_KEY),
    description="Lists the product folders into the index and says which products cannot be "
    "learned, and why; learns nothing. `preview_catalog` says beforehand what it would find.",
    **job_labels("catalog"),
)
