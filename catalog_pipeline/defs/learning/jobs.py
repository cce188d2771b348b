"""``learn_new_skus``: one range run learns up to 25 SKUs, one after the other."""

import dagster as dg

from catalog_pipeline.defs.labels import job_labels
from catalog_pipeline.defs.learning.checks import (
    learned_skus_are_served,
    memory_head_is_consistent,
    no_forgetting_regression,
    prior_intact,
)
from catalog_pipeline.defs.learning.concept_events import CONCEPT_KEY
from catalog_pipeline.defs.learning.served import MEMORY_KEY

learn_new_skus = dg.define_asset_job(
    "learn_new_skus",
    selection=dg.AssetSelection.assets(CONCEPT_KEY).without_checks(),
    executor_def=dg.in_process_executor,
    description="Learns the SKUs of a partition range, one after the other; started by the "
    "`catalog_watch` sensor, or by hand for one SKU or a range. `preview_learning` says "
    "beforehand what it would do.",
    **job_labels("learning"),
)

report_memory = dg.define_asset_job(
    "report_memory",
    selection=dg.AssetSelection.assets(MEMORY_KEY)
    | dg.AssetSelection.checks(
        memory_head_is_consistent,
        learned_skus_are_served,
        no_forgetting_regression,
        prior_intact,
    ),
    executor_def=dg.in_process_executor,
    description="Reads what every collection now knows; checks heads, forgetting, prior, and "
    "whether all that was learned is served. Changes nothing.",
    **job_labels("learning"),
)
