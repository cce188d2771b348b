"""Dry runs of what the assets do: ``preview_catalog``, ``preview_learning``, ``preview_night``.

They are jobs of their own: a run of an asset that makes nothing would turn a failed partition
into one that looks as if it had never been tried.
"""

import dagster as dg
from pydantic import Field

from catalog_pipeline.dates import parse_day
from catalog_pipeline.defs.catalog.index_report import index_metadata
from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.generation.assets import plan_metadata, today
from catalog_pipeline.defs.labels import job_labels
from catalog_pipeline.defs.learning.config import LearnConfig, home_of_run
from catalog_pipeline.defs.metadata import table
from catalog_pipeline.defs.resources import PipelineResource


@dg.op
@fails_in_one_line
def preview_listing(context: dg.OpExecutionContext, pipeline: PipelineResource) -> None:
    """Say what a listing of the product folders would add, change and retire."""
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index

    report = refresh_index(pipeline.opened, dry_run=True)
    moved = {
        "add": report.added,
        "change": report.changed,
        "retire": report.retired,
        "wait for, still moving": report.unsettled,
    }
    for what, skus in moved.items():
        context.log.info(f"would {what}: {', '.join(skus) or 'none'}")
    context.add_output_metadata(index_metadata(report, pipeline.opened))


@dg.job(
    description="Dry run of a listing: what it would add, change and retire. Writes nothing.",
    executor_def=dg.in_process_executor,
    **job_labels("catalog"),
)
def preview_catalog() -> None:
    """One step; see docs/operations.md."""
    preview_listing()


class PreviewLearningConfig(LearnConfig):
    """Which SKUs would be learned, and how."""

    skus: list[str] = Field(
        [], description="SKUs to ask about; empty means all that are new, changed or failed."
    )


@dg.op
@fails_in_one_line
def preview_concepts(
    context: dg.OpExecutionContext, config: PreviewLearningConfig, pipeline: PipelineResource
) -> None:
    """Say of each SKU whether it would be learned, by how many steps, or fail for its photos."""
    from catalog_pipeline.workflows.learn.learning_preview import preview_learning as preview

    home = home_of_run(pipeline.opened, config)
    found = list(preview(home, config.skus or None, force=config.force))
    for outcome in found:
        context.log.info(f"{outcome.sku}: {outcome.status}: {outcome.reason}")
    rows = [{"sku": o.sku, "status": o.status, "reason": o.reason} for o in found]
    columns = dict.fromkeys(("sku", "status", "reason"), "string")
    context.add_output_metadata({"products": table(rows, columns, at_most=1000)})


@dg.job(
    description="Dry run of learning: which products would be learned, and which would fail for "
    "their photos. Reads the photos, trains and writes nothing.",
    executor_def=dg.in_process_executor,
    **job_labels("learning"),
)
def preview_learning() -> None:
    """One step; see docs/operations.md."""
    preview_concepts()


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
