"""``remove_concept``: destroy products for good, and what Dagster itself has recorded of them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import AssetRecordsFilter, EventLogRecord
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from pydantic import Field

from catalog_pipeline.defs.catalog.assets import PHOTO_SET_KEY
from catalog_pipeline.defs.catalog.sensors import SKU_TAG
from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.generation.images import IMAGES_KEY
from catalog_pipeline.defs.labels import job_labels
from catalog_pipeline.defs.learning.concept_events import CONCEPT_KEY
from catalog_pipeline.defs.learning.current_state import record_current_state
from catalog_pipeline.defs.learning.memory_report import memory_metadata
from catalog_pipeline.defs.learning.served import MEMORY_KEY
from catalog_pipeline.defs.metadata import table
from catalog_pipeline.defs.ops.jobs import FINISHED, delete_run, holds_newest_event
from catalog_pipeline.defs.ops.upkeep import delete_partitions
from catalog_pipeline.defs.pictures import PICTURES
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.defs.sku_shards import sku_placement

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

_PARTITION_TAG = "dagster/partition"
_EVENTS_AT_ONCE = 1000
_PICTURE_LINK = re.compile(rf"/logs/([^/\s)]+)/{PICTURES}/([0-9a-f]+)/png")


class RemovalConfig(dg.Config):
    """Which products, and whether really."""

    skus: list[str] = Field(
        description="The products to destroy; their photo folders must be gone."
    )
    dry_run: bool = Field(
        True, description="Only say what would go. Nothing that was removed can be brought back."
    )


@dg.op(out=dg.Out(dg.Nothing))
@fails_in_one_line
def remove_products(
    context: dg.OpExecutionContext, config: RemovalConfig, pipeline: PipelineResource
) -> Iterator[Any]:
    """Destroy all that is stored of products, then their partitions, runs and pictures here.

    Also for products that were removed on the command line, which does not reach Dagster. A
    run that holds the newest event of another product is kept; its pictures of this one go.
    """
    from catalog_pipeline.workflows.upkeep.remove_concept import plan_removals, remove_concepts

    home = pipeline.opened
    planned = plan_removals(home, config.skus, strangers=True)
    for line in (line for plan in planned for line in plan.lines):
        context.log.info(f"dry run: {line}" if config.dry_run else line)
    held = sku_placement(context.instance, home.settings.catalog).holders
    strangers = [p.sku for p in planned if not p.known and p.sku not in held]
    unknown = [sku for sku in strangers if not nights_of(home, [sku]).removed]
    if unknown:
        raise dg.Failure(
            f"nothing of {', '.join(unknown)} is stored, and it was never removed; check the names",
            allow_retries=False,
        )
    if config.dry_run:
        yield dg.Output(None, metadata={"dry_run": True})
        return
    failed: dict[str, str] = {}
    for outcome in remove_concepts(home, [plan.sku for plan in planned if plan.known]):
        if outcome.reason:
            failed[outcome.sku] = outcome.reason
            continue
        context.log.info(f"{outcome.sku}: {outcome.counts}; audit log entry {outcome.tombstone}")
        for note in outcome.notes:
            context.log.warning(f"{outcome.sku}: {note}")
    gone = [plan.sku for plan in planned if plan.sku not in failed]
    record_current_state(context, home)
    # Dagster stores what was logged when this is yielded: a run that held the newest index or
    # memory until now may go.
    yield _memory(context, home)
    traces = _forget(context.instance, home, gone)
    yield dg.Output(
        None,
        metadata={
            "removed": len(gone),
            "runs_deleted": traces.runs,
            "pictures_deleted": traces.pictures,
            "partitions_deleted": traces.partitions,
            "runs_that_keep_a_trace": table(
                [{"run": run_id} for run_id in traces.kept], {"run": "string"}
            ),
        },
    )
    if failed:
        reasons = "; ".join(f"{sku}: {reason}" for sku, reason in failed.items())
        raise dg.Failure(f"{len(failed)} products could not be removed: {reasons}")


def _memory(context: dg.OpExecutionContext, home: "Home") -> dg.AssetMaterialization:
    """The memory as it is now, so that its newest event names no removed product."""
    current = [home.adapters(name).current() for name in home.collections()]
    heads = [head for head in current if head is not None]
    return dg.AssetMaterialization(
        asset_key=MEMORY_KEY,
        description="A product was removed; the audit log says which.",
        metadata=memory_metadata(home, heads, context),
    )


@dataclass(frozen=True)
class RemovedNights:
    """Whether products were ever removed, and the nights that showed them then."""

    removed: bool
    days: frozenset[date]


def nights_of(home: "Home", skus: Iterable[str]) -> RemovedNights:
    """What the tombstones of ``skus`` say."""
    from catalog_pipeline.workflows.upkeep.audit_entries import matching_entries

    found = [entry for sku in skus for entry in matching_entries(home, sku=sku, action="remove")]
    days = {date.fromisoformat(day) for entry in found for day in entry.facts.get("nights", ())}
    return RemovedNights(bool(found), frozenset(days))


@dataclass(frozen=True)
class ForgottenTraces:
    """What went of Dagster's records; ``kept`` are runs whose events still name a product."""

    runs: int
    pictures: int
    partitions: int
    kept: tuple[str, ...]


def _forget(instance: dg.DagsterInstance, home: "Home", skus: Iterable[str]) -> ForgottenTraces:
    skus = list(skus)
    runs = pictures = 0
    kept: list[str] = []
    for day in nights_of(home, skus).days:
        pictures += sum(map(_delete_pictures, _links(instance, IMAGES_KEY, day.isoformat())))
    for sku in skus:
        for run_id in sorted(_runs_of(instance, sku)):
            run = instance.get_run_by_id(run_id)
            if run is None:
                continue
            if run.status in FINISHED and not holds_newest_event(instance, run_id, apart_from=sku):
                delete_run(instance, run_id)
                runs += 1
            else:
                kept.append(run_id)
        pictures += sum(
            _delete_pictures(link) for key in _sku_keys() for link in _links(instance, key, sku)
        )
    partitions = delete_partitions(instance, home.settings.catalog, skus)
    return ForgottenTraces(runs, pictures, len(partitions), tuple(dict.fromkeys(kept)))


def _sku_keys() -> list[dg.AssetKey]:
    """The assets that have a partition a product, of every shard."""
    from catalog_pipeline.defs.sku_shards import SKU_SHARDS

    return [shard.key(key) for shard in SKU_SHARDS for key in (CONCEPT_KEY, PHOTO_SET_KEY)]


def _runs_of(instance: dg.DagsterInstance, sku: str) -> set[str]:
    """Runs that were asked for the product, or have an event of its partition."""
    found = {
        run.run_id
        for tag in (_PARTITION_TAG, SKU_TAG)
        for run in instance.get_runs(filters=dg.RunsFilter(tags={tag: sku}))
    }
    return found.union(
        record.run_id for key in _sku_keys() for record in _records(instance, key, sku)
    )


def _records(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str
) -> Iterator[EventLogRecord]:
    wanted = AssetRecordsFilter(key, asset_partitions=[partition])
    for fetch in (instance.fetch_materializations, instance.fetch_observations):
        yield from fetch(wanted, limit=_EVENTS_AT_ONCE).records


def _links(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> Iterator[Path]:
    """The picture files that events of the partition link to."""
    logs = instance.compute_log_manager
    if not isinstance(logs, LocalComputeLogManager):
        return
    for record in _records(instance, key, partition):
        entry = record.event_log_entry
        event = entry.asset_materialization or entry.asset_observation
        for value in event.metadata.values() if event else ():
            if isinstance(value, dg.MarkdownMetadataValue):
                for run_id, name in _PICTURE_LINK.findall(value.md_str or ""):
                    yield Path(logs.get_captured_local_path([run_id, PICTURES, name], "png"))


def _delete_pictures(path: Path) -> int:
    there = path.exists()
    path.unlink(missing_ok=True)
    return int(there)


@dg.job(
    name="remove_concept",
    description="Destroys products for good: weights, pictures, rows, pages, keys, partitions and "
    "runs. `dry_run`, which is on, says beforehand what would go.",
    executor_def=dg.in_process_executor,
    **job_labels("upkeep"),
)
def remove_concept_job() -> None:
    """One step; see docs/governance/removal.md."""
    remove_products()
