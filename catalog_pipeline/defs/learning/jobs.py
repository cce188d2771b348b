"""``learn_new_skus``: one range run learns up to 25 SKUs, one after the other."""

import dagster as dg

from catalog_pipeline.defs.learning.assets import CONCEPT_KEY, MEMORY_KEY
from catalog_pipeline.defs.learning.checks import (
    memory_head_is_consistent,
    no_forgetting_regression,
    prior_intact,
)

learn_new_skus = dg.define_asset_job(
    "learn_new_skus",
    selection=dg.AssetSelection.assets(CONCEPT_KEY).without_checks(),
    executor_def=dg.in_process_executor,
    description="Learns the SKUs of a partition range; started by the catalog_watch sensor.",
)

report_memory = dg.define_asset_job(
    "report_memory",
    selection=dg.AssetSelection.assets(MEMORY_KEY)
    | dg.AssetSelection.checks(memory_head_is_consistent, no_forgetting_regression, prior_intact),
    executor_def=dg.in_process_executor,
    description="Reads what every collection now knows; checks heads, forgetting and prior.",
)
