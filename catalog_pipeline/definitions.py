"""The one Definitions object: ``dagster``, ``dg`` and the code server load this module."""

import dagster as dg

from catalog_pipeline.defs.archive.assets import image_manifest, summary
from catalog_pipeline.defs.archive.checks import archive_has_unique_image_ids
from catalog_pipeline.defs.catalog.assets import catalog_index, photo_set
from catalog_pipeline.defs.catalog.checks import photo_set_is_usable
from catalog_pipeline.defs.catalog.jobs import refresh_catalog
from catalog_pipeline.defs.catalog.schedules import nightly_catalog_refresh
from catalog_pipeline.defs.catalog.sensors import catalog_watch
from catalog_pipeline.defs.generation.assets import images, plan
from catalog_pipeline.defs.generation.jobs import nightly_generation
from catalog_pipeline.defs.generation.schedules import nightly_generation_schedule
from catalog_pipeline.defs.learning.assets import concept, memory
from catalog_pipeline.defs.learning.checks import (
    memory_head_is_consistent,
    no_forgetting_regression,
    prior_intact,
)
from catalog_pipeline.defs.learning.jobs import learn_new_skus, report_memory
from catalog_pipeline.defs.learning.schedules import nightly_learning_retry
from catalog_pipeline.defs.ops.jobs import purge_old_runs
from catalog_pipeline.defs.ops.upkeep import (
    catalog_retire,
    collect_garbage,
    nightly_catalog_retire,
)
from catalog_pipeline.defs.resources import PipelineResource

defs = dg.Definitions(
    assets=[catalog_index, photo_set, concept, memory, plan, images, image_manifest, summary],
    asset_checks=[
        photo_set_is_usable,
        no_forgetting_regression,
        prior_intact,
        memory_head_is_consistent,
        archive_has_unique_image_ids,
    ],
    jobs=[
        *(refresh_catalog, catalog_retire, learn_new_skus, report_memory, nightly_generation),
        *(purge_old_runs, collect_garbage),
    ],
    schedules=[
        *(nightly_catalog_refresh, nightly_catalog_retire),
        *(nightly_learning_retry, nightly_generation_schedule),
    ],
    sensors=[catalog_watch],
    resources={"pipeline": PipelineResource()},
    # A step in a child process outlives a killed run and trains on, holding nothing.
    executor=dg.in_process_executor,
)
