"""``learn_new_skus``: one range run learns up to 25 SKUs, one after the other."""

from collections.abc import Sequence

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
from catalog_pipeline.defs.sku_shards import SKU_SHARDS

LEARN_JOB = "learn_new_skus"

learn_jobs = [
    dg.define_asset_job(
        shard.named(LEARN_JOB),
        selection=dg.AssetSelection.assets(shard.key(CONCEPT_KEY)).without_checks(),
        executor_def=dg.in_process_executor,
        description="Learns the SKUs of a partition range, one after the other; started by the "
        "`catalog_watch` sensor, or by hand for one SKU or a range. `preview_learning` says "
        "beforehand what it would do.",
        **job_labels("learning"),
    )
    for shard in SKU_SHARDS
]


def learning_runs(
    instance: dg.DagsterInstance, statuses: Sequence[dg.DagsterRunStatus] | None = None
) -> list[dg.DagsterRun]:
    """The learning runs of every shard, each shard's newest first; default of any status."""
    return [
        run
        for job in learn_jobs
        for run in instance.get_runs(filters=dg.RunsFilter(job_name=job.name, statuses=statuses))
    ]


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
