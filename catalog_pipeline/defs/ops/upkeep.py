"""``collect_garbage`` and ``catalog_retire``: what keeps the home small and the catalog true."""

from collections.abc import Iterable
from typing import Any

import dagster as dg
from pydantic import Field

from catalog_pipeline.defs.catalog.sensors import RANGE_END_TAG, RANGE_START_TAG, UNFINISHED
from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.labels import automation_labels, job_labels
from catalog_pipeline.defs.learning.jobs import learning_runs
from catalog_pipeline.defs.learning.served import MEMORY_KEY
from catalog_pipeline.defs.metadata import table
from catalog_pipeline.defs.partitions import schedule_timezone
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.defs.sku_shards import sku_placement
from catalog_pipeline.settings import CatalogSettings


class GarbageConfig(dg.Config):
    """What a clean-up spares."""

    grace_hours: float = Field(
        72.0,
        ge=0,
        description="Only what was last written so many hours ago is removed. Longer than a night "
        "and a learning run take; 0 is for a home on which nothing runs.",
    )
    dry_run: bool = Field(
        False, description="Only list what would be removed, and its size; nothing is removed."
    )


@dg.op
@fails_in_one_line
def remove_garbage(
    context: dg.OpExecutionContext, config: GarbageConfig, pipeline: PipelineResource
) -> None:
    """Remove what nothing refers to and nobody wrote for `grace_hours`, or is past its time."""
    from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage as collect

    report = collect(pipeline.opened, grace_hours=config.grace_hours, dry_run=config.dry_run)
    for text in report.skipped:
        context.log.warning(f"skipped {text}")
    context.add_output_metadata(
        {
            "objects": len(report.garbage),
            "bytes": report.size_bytes,
            "dry_run": report.dry_run,
            "removed": table(
                [{"kind": item.kind, "key": item.key} for item in report.garbage],
                {"kind": "string", "key": "string"},
            ),
        }
    )


@dg.job(
    description="Removes what nothing refers to any more: parts, checkpoints, pictures, caches, "
    "and what was kept for as long as governance.yaml says. With `dry_run` it only lists them.",
    **job_labels("upkeep"),
)
def collect_garbage() -> None:
    """Keeps the home small; see docs/operations.md."""
    remove_garbage()


@dg.schedule(
    job=collect_garbage,
    cron_schedule="0 4 * * 0",
    execution_timezone=schedule_timezone(),
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every Sunday at 04:00: removes what nothing refers to any more, and what "
    "was kept for as long as governance.yaml says.",
    **automation_labels("upkeep"),
)
def weekly_collect_garbage(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """A day that is set in governance.yaml is kept to within a week."""
    return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat())


@dg.op
@fails_in_one_line
def retire_vanished(context: dg.OpExecutionContext, pipeline: PipelineResource) -> None:
    """Clean up after every retired product, then delete its partition.

    The partition goes last: as long as it is there, a rerun knows of the product. One
    at the edge of a learning run that is queued or running stays for the next time,
    because that run names its range by it.
    """
    from catalog_pipeline.records import SkuStatus
    from catalog_pipeline.workflows.catalog.retire import retire_concepts

    kept: dict[str, str] = {}
    heads: dict[str, str] = {}
    for outcome in retire_concepts(pipeline.opened):
        if outcome.reason:
            kept[outcome.sku] = outcome.reason
            context.log.error(f"{outcome.sku}: {outcome.reason}")
            continue
        context.log.info(f"{outcome.sku}: {', '.join(outcome.done) or 'nothing was left of it'}")
        if outcome.version:
            heads[outcome.sku] = outcome.version
    if heads:
        context.log_event(
            dg.AssetMaterialization(asset_key=MEMORY_KEY, metadata={"retired": _table(heads)})
        )
    rows = pipeline.opened.index.read()
    gone = [row.sku for row in rows if row.status is SkuStatus.RETIRED and row.sku not in kept]
    deleted = delete_partitions(context.instance, pipeline.opened.settings.catalog, gone)
    context.add_output_metadata(
        {"retired": _table(heads), "partitions_deleted": len(deleted), "kept": _table(kept)}
    )
    if kept:
        reasons = "; ".join(f"{sku}: {reason}" for sku, reason in kept.items())
        raise dg.Failure(f"{len(kept)} products could not be retired: {reasons}")


def delete_partitions(
    instance: dg.DagsterInstance, settings: CatalogSettings, skus: Iterable[str]
) -> list[str]:
    """Delete the partitions of ``skus``, but of those at the edge of a learning run under way."""
    known = sku_placement(instance, settings)
    runs = learning_runs(instance, UNFINISHED)
    edges = {run.tags.get(tag) for run in runs for tag in (RANGE_START_TAG, RANGE_END_TAG)}
    deleted = [sku for sku in skus if sku in known.holders and sku not in edges]
    for sku in deleted:
        instance.delete_dynamic_partition(known.shard_of(sku).set_name, sku)
    return deleted


def _table(rows: dict[str, str]) -> Any:
    listed = [{"sku": sku, "what": what} for sku, what in rows.items()]
    return table(listed, {"sku": "string", "what": "string"})


@dg.job(
    description="Cleans up after products whose folders are gone, then drops their partitions.",
    **job_labels("upkeep"),
)
def catalog_retire() -> None:
    """Out of the head, the checkpoints, the plans and the partitions; see docs/operations.md."""
    retire_vanished()


@dg.schedule(
    job=catalog_retire,
    cron_schedule="30 1 * * *",
    execution_timezone=schedule_timezone(),
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every night at 01:30: cleans up after products whose folders are gone, after the "
    "listing and before the plan.",
    **automation_labels("upkeep"),
)
def nightly_catalog_retire(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """After the nightly listing and before the nightly plan."""
    return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat())
