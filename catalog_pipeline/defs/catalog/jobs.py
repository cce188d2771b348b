"""``refresh_catalog``: list the folders and say which sets are unusable."""

import dagster as dg

from catalog_pipeline.defs.catalog.assets import INDEX_KEY
from catalog_pipeline.defs.catalog.checks import photo_set_is_usable

refresh_catalog = dg.define_asset_job(
    "refresh_catalog",
    selection=dg.AssetSelection.assets(INDEX_KEY) | dg.AssetSelection.checks(photo_set_is_usable),
    description="Lists the product folders into the index; learns nothing.",
)
