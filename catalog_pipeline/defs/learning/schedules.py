"""``nightly_learning_retry``, 01:45."""

import dagster as dg

from catalog_pipeline.defs.catalog.requests import count_retries, failed_to_retry, usable_rows
from catalog_pipeline.defs.catalog.sensors import (
    RANGE_END_TAG,
    RANGE_START_TAG,
    SKU_TAG,
    range_skus,
)
from catalog_pipeline.defs.labels import automation_labels
from catalog_pipeline.defs.learning.jobs import LEARN_JOB, learning_runs
from catalog_pipeline.defs.partitions import schedule_timezone
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.defs.sku_shards import SKU_SHARDS, SkuShard, sku_placement

SCHEDULE_NAME = "nightly_learning_retry"
RETRY_TAG = "nightly_retry"


def retry_schedule(shard: SkuShard) -> dg.ScheduleDefinition:
    """``nightly_learning_retry`` of one shard: a schedule starts one job."""

    @dg.schedule(
        job_name=shard.named(LEARN_JOB),
        name=shard.named(SCHEDULE_NAME),
        cron_schedule="45 1 * * *",
        execution_timezone=schedule_timezone(),
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Every night at 01:45: learns every failed product once more, three nights at "
        "most for the same photos.",
        **automation_labels("learning"),
    )
    def nightly_learning_retry(
        context: dg.ScheduleEvaluationContext, pipeline: PipelineResource
    ) -> list[dg.RunRequest] | dg.SkipReason:
        """Learns every failed product once more a night, at most three nights for the same photos.

        After the refresh and before the night is rendered. How often a product was retried since
        the watcher last asked for it is counted from the runs themselves, which `purge_old_runs`
        keeps for 30 days. Photos that come back after others have three nights again.
        """
        catalog = pipeline.opened.settings.catalog
        placement = sku_placement(context.instance, catalog)
        partitions = placement.in_order()
        runs = learning_runs(context.instance)
        rows = usable_rows(pipeline.opened.index.read(), catalog)
        names = failed_to_retry(
            [row for row in rows if placement.holders.get(row.sku) == shard],
            count_retries(
                (range_skus(run, partitions), run.tags.get(RETRY_TAG, ""))
                for run in runs
                if run.parent_run_id is None  # an automatic retry is part of its run
            ),
            max_requests=catalog.max_requests_per_tick,
        )
        if not names:
            return dg.SkipReason("no failed product has a retry left")
        day = context.scheduled_execution_time.date().isoformat()
        return [_request(name, day) for name in names]

    return nightly_learning_retry


retry_schedules = [retry_schedule(shard) for shard in SKU_SHARDS]


def _request(name: str, day: str) -> dg.RunRequest:
    sku = name.rpartition(":")[0]
    tags = {RANGE_START_TAG: sku, RANGE_END_TAG: sku, SKU_TAG: sku, RETRY_TAG: name}
    return dg.RunRequest(run_key=f"{day}:{name}", tags=tags)
