"""``nightly_generation`` and ``preview_night``."""

import dagster as dg
from pydantic import Field

from catalog_pipeline.dates import parse_day
from catalog_pipeline.defs.archive.assets import MANIFEST_KEY, SUMMARY_KEY
from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.generation.assets import PLAN_KEY, plan_metadata, today
from catalog_pipeline.defs.generation.images import IMAGES_KEY
from catalog_pipeline.defs.labels import job_labels
from catalog_pipeline.defs.learning.served import MEMORY_KEY
from catalog_pipeline.defs.resources import PipelineResource

nightly_generation = dg.define_asset_job(
    "nightly_generation",
    selection=dg.AssetSelection.assets(MEMORY_KEY, PLAN_KEY, IMAGES_KEY, MANIFEST_KEY, SUMMARY_KEY),
    executor_def=dg.in_process_executor,
    description="Checks the memory, plans, renders and publishes one night: that of its partition. "
    "What is there already is not made again. `preview_night` says beforehand what it would make.",
    **job_labels("generation"),
)


class DayConfig(dg.Config):
    """Which night."""

    day: str = Field(
        "",
        description="The night, as YYYY-MM-DD; empty means today, in the time zone of the "
        "schedules.",
    )


@dg.op
@fails_in_one_line
def preview_plan(
    context: dg.OpExecutionContext, config: DayConfig, pipeline: PipelineResource
) -> None:
    """Say what a night would make, how long it would take, and whom it would leave out."""
    from catalog_pipeline.workflows.night.preview_night import preview_night as preview

    day = parse_day(config.day.strip()) if config.day.strip() else today()
    found = preview(pipeline.opened, day)
    how = "is planned already" if found.stored else "would be planned"
    context.log.info(
        f"{day} {how}: {len(found.plan.jobs)} pictures, {found.rendered} there already, about "
        f"{found.minutes:.1f} minutes for the others"
    )
    context.add_output_metadata(
        {
            **plan_metadata(found.plan),
            "day": day.isoformat(),
            "planned already": found.stored,
            "rendered already": found.rendered,
            "minutes": round(found.minutes, 2),
            "seconds_per_image": round(found.seconds_per_image, 3),
            "measured": found.measured,
            "not shown": ", ".join(found.unseen) or "none",
        }
    )


@dg.job(
    description="Dry run of a night: its plan in numbers, its time and its gaps. Writes nothing.",
    executor_def=dg.in_process_executor,
    **job_labels("generation"),
)
def preview_night() -> None:
    """One step; see docs/operations.md."""
    preview_plan()
