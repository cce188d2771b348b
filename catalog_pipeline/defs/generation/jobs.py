"""``nightly_generation``: from what is known to a published night."""

import dagster as dg

from catalog_pipeline.defs.archive.assets import MANIFEST_KEY, SUMMARY_KEY
from catalog_pipeline.defs.generation.assets import PLAN_KEY
from catalog_pipeline.defs.generation.images import IMAGES_KEY
from catalog_pipeline.defs.labels import job_labels
from catalog_pipeline.defs.learning.served import MEMORY_KEY

nightly_generation = dg.define_asset_job(
    "nightly_generation",
    selection=dg.AssetSelection.assets(MEMORY_KEY, PLAN_KEY, IMAGES_KEY, MANIFEST_KEY, SUMMARY_KEY),
    executor_def=dg.in_process_executor,
    description="Checks the memory, plans, renders and publishes one night: that of its partition. "
    "What is there already is not made again. `preview_night` says beforehand what it would make.",
    **job_labels("generation"),
)
