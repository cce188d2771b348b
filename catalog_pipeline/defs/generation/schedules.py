"""``nightly_generation``, 02:30."""

import dagster as dg

from catalog_pipeline.defs.generation.jobs import nightly_generation
from catalog_pipeline.defs.partitions import schedule_timezone
from catalog_pipeline.defs.resources import PipelineResource


@dg.schedule(
    job=nightly_generation,
    name="nightly_generation",
    description="Renders the night of the day on which it starts; skips while nothing is learned.",
    cron_schedule="30 2 * * *",
    execution_timezone=schedule_timezone(),
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def nightly_generation_schedule(
    context: dg.ScheduleEvaluationContext, pipeline: PipelineResource
) -> dg.RunRequest | dg.SkipReason:
    """Renders the night of the day on which it starts; skips while nothing is learned."""
    home = pipeline.opened
    if all(home.adapters(name).head() is None for name in home.collections()):
        return dg.SkipReason("nothing has been learned yet, so there is nothing to render")
    day = context.scheduled_execution_time.date().isoformat()
    return dg.RunRequest(run_key=day, partition_key=day, tags={"day": day})
