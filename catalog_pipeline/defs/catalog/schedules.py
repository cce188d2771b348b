"""``nightly_catalog_refresh``, 01:00."""

import dagster as dg

from catalog_pipeline.defs.catalog.jobs import refresh_catalog
from catalog_pipeline.defs.partitions import schedule_timezone


@dg.schedule(
    job=refresh_catalog,
    description="Lists the product folders every night, before anything is rendered.",
    cron_schedule="0 1 * * *",
    execution_timezone=schedule_timezone(),
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def nightly_catalog_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Lists the product folders every night, before anything is rendered."""
    day = context.scheduled_execution_time.date().isoformat()
    return dg.RunRequest(run_key=day, tags={"day": day})
