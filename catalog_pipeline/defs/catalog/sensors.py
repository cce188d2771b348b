"""``catalog_watch``: new and changed products become learning runs."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from catalog_pipeline.defs.catalog.index_report import (
    index_events,
    index_metadata,
    waiting_for_a_person,
)
from catalog_pipeline.defs.catalog.requests import (
    LearnRequest,
    RunState,
    WatchState,
    plan_requests,
    usable_rows,
    waiting_to_learn,
)
from catalog_pipeline.defs.labels import automation_labels
from catalog_pipeline.defs.learning.jobs import LEARN_JOB, learn_jobs, learning_runs
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.defs.sku_shards import (
    ADDED_AT_ONCE,
    SkuPlacement,
    SkuShard,
    sku_placement,
)
from catalog_pipeline.errors import CatalogError
from catalog_pipeline.records import IndexRow

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

SENSOR_NAME = "catalog_watch"
RUN_KEY_TAG = "dagster/run_key"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
WILL_RETRY_TAG = "dagster/will_retry"
AUTO_RETRY_RUN_TAG = "dagster/auto_retry_run_id"
RETRY_PATIENCE_SECONDS = 600.0
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
SKU_TAG = "sku"
SKU_TAG_CHARS = 200


@dg.sensor(
    name=SENSOR_NAME,
    jobs=learn_jobs,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Every minute: lists the product folders and asks for the learning of every "
    "settled product that is new or has changed. Names the products that wait for a person.",
    **automation_labels("catalog"),
)
def catalog_watch(
    context: dg.SensorEvaluationContext, pipeline: PipelineResource
) -> dg.SensorResult:
    """Asks for the learning of every settled product that is new or has changed.

    A catalog of up to `sensor_lists_up_to_skus` SKUs is listed in the tick itself; a
    larger one is diffed as `catalog/index` last wrote it, because a tick has 60 seconds.
    Neighbouring partitions share a range run; at most `max_requests_per_tick` runs a
    tick. An empty or suspicious listing skips the tick and retires nothing.
    """
    catalog = pipeline.opened.settings.catalog
    try:
        rows, events = _current_rows(pipeline.opened)
    except CatalogError as error:
        return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
    waiting = waiting_for_a_person(pipeline.opened, rows)
    if waiting and events:
        context.log.warning(waiting)
    usable = usable_rows(rows, catalog)
    before = sku_placement(context.instance, catalog)
    placed = before.with_new((row.sku for row in usable), catalog.shards.skus)
    state = plan_requests(
        WatchState.from_cursor(context.cursor),
        partitions=placed.in_order(),
        waiting=waiting_to_learn(usable),
        run_state=lambda run_key: _run_state(context.instance, run_key),
        max_requests=catalog.max_requests_per_tick,
        under_way=_under_way(context.instance, before),
    )
    for sku in state.exhausted:
        context.log.warning(
            f"{sku}: its runs ended without a verdict too often; look at their logs, then "
            "materialize learning/concept for it by hand"
        )
    return dg.SensorResult(
        run_requests=[
            _run_request(request, placed.shard_of(request.first)) for request in state.requests
        ],
        skip_reason=None if state.requests else _nothing_to_do(rows, usable, waiting),
        dynamic_partitions_requests=_add_requests(placed.added_since(before)) or None,
        cursor=state.to_cursor(),
        asset_events=events,
    )


def _current_rows(
    home: "Home",
) -> tuple[Sequence[IndexRow], list[dg.AssetMaterialization | dg.AssetCheckEvaluation]]:
    """The index rows, listed anew where that is cheap, and the events of a changed index."""
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index

    rows = home.index.read()
    if len(rows) > home.settings.catalog.sensor_lists_up_to_skus:
        return rows, []
    report = refresh_index(home)
    if not (report.added or report.changed or report.retired):
        return report.rows, []
    return report.rows, index_events(home, index_metadata(report, home))


def _nothing_to_do(rows: Sequence[IndexRow], usable: Sequence[IndexRow], waiting: str) -> str:
    if not rows:
        return "no product has been seen and settled yet"
    listed = f"nothing new among {len(usable)} usable products; {len(rows)} rows in the index"
    return f"{listed}; {waiting}" if waiting else listed


def _add_requests(
    added: Mapping[SkuShard, Sequence[str]],
) -> list[dg.AddDynamicPartitionsRequest]:
    return [
        shard.partitions.build_add_request(skus[start : start + ADDED_AT_ONCE])
        for shard, skus in added.items()
        for start in range(0, len(skus), ADDED_AT_ONCE)
    ]


def _run_request(request: LearnRequest, shard: SkuShard) -> dg.RunRequest:
    named = ",".join(request.skus)
    if len(named) > SKU_TAG_CHARS:
        named = f"{request.first}..{request.last} ({len(request.skus)})"
    return dg.RunRequest(
        run_key=request.run_key,
        job_name=shard.named(LEARN_JOB),
        tags={RANGE_START_TAG: request.first, RANGE_END_TAG: request.last, SKU_TAG: named},
    )


def range_skus(run: dg.DagsterRun, partitions: Sequence[str]) -> Sequence[str]:
    """The SKUs of a learning run, from the range that its tags name."""
    first, last = run.tags.get(RANGE_START_TAG), run.tags.get(RANGE_END_TAG)
    if first not in partitions or last not in partitions:
        return []
    return partitions[partitions.index(first) : partitions.index(last) + 1]


def _under_way(instance: dg.DagsterInstance, placement: SkuPlacement) -> set[str]:
    runs = learning_runs(instance, UNFINISHED)
    partitions = placement.in_order() if runs else []
    return {sku for run in runs for sku in range_skus(run, partitions)}


def _run_state(instance: dg.DagsterInstance, run_key: str) -> RunState:
    """What became of the run, and of its automatic retry, that ``run_key`` started."""
    records = instance.get_run_records(filters=dg.RunsFilter(tags={RUN_KEY_TAG: run_key}))
    if not records:
        return "none"
    for record in records:
        if not record.dagster_run.is_finished or _awaits_retry(record):
            return "unfinished"
    return "finished"


def _awaits_retry(record: dg.RunRecord) -> bool:
    """Whether the daemon will still start the run again.

    It tries so once, at once; when the code server is away at that moment, never again.
    """
    tags = record.dagster_run.tags
    if tags.get(WILL_RETRY_TAG) != "true" or tags.get(AUTO_RETRY_RUN_TAG):
        return False
    return time.time() - (record.end_time or 0.0) < RETRY_PATIENCE_SECONDS
