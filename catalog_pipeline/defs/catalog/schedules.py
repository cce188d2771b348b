"""``nightly_catalog_refresh``, 01:00."""

import dagster as dg

from catalog_pipeline.defs.catalog.jobs import refresh_catalog
from catalog_pipeline.defs.labels import automation_labels
from catalog_pipeline.defs.partitions import schedule_timezone


@dg.schedule(
    job=refresh_catalog,
    cron_schedule="0 1 * * *",
    execution_timezone=schedule_timezone(),
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every night at 01:00: lists the product folders, before anything is learned or "
    "rendered, and says which products cannot be learned.",
    **automation_labels("catalog"),
)
def nightly_catalog_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run a night, named after its day."""
    day = context.scheduled_execution_time.date().isoformat()
    return dg.RunRequest(run_key=day, tags={"day": day})
