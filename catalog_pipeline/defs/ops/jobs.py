"""``purge_old_runs``: Dagster keeps every run for ever, at about 150 kB each; this job does not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster import AssetRecordsFilter, DagsterRunStatus
from dagster._core.storage.event_log import SqliteEventLogStorage
from pydantic import Field

from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.labels import job_labels

FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]


class PurgeConfig(dg.Config):
    """How long a run is kept."""

    keep_days: int = Field(
        30, ge=0, le=36_500, description="Runs that ended within so many days are kept."
    )
    max_runs: int = Field(
        500, ge=0, description="So many are deleted at most in one run of this job, oldest first."
    )


@dg.op
@fails_in_one_line
def purge(context: dg.OpExecutionContext, config: PurgeConfig) -> None:
    """Delete finished runs older than `keep_days`, oldest first, at most `max_runs`.

    With a run go its events, what its steps printed, and its file on the disk. A run that
    holds the newest materialization of any asset or partition is kept, because deleting
    it would make that partition look as if it had never been made.
    """
    before = datetime.now(UTC) - timedelta(days=config.keep_days)
    deleted = 0
    for run_id in _finished_before(context.instance, before, config.max_runs):
        if run_id == context.run_id or holds_newest_event(context.instance, run_id):
            continue
        delete_run(context.instance, run_id)
        deleted += 1
    context.log.info(f"deleted {deleted} runs that ended before {before:%Y-%m-%d}")
    context.add_output_metadata({"deleted": deleted, "keep_days": config.keep_days})


def _finished_before(instance: dg.DagsterInstance, before: datetime, limit: int) -> Iterator[str]:
    records = instance.get_run_records(
        filters=dg.RunsFilter(statuses=FINISHED, created_before=before),
        limit=limit,
        ascending=True,
    )
    for record in records:
        yield record.dagster_run.run_id


def delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete the run, its captured output, and on SQLite the database file of its own.

    Dagster's ``delete_run`` empties that file and leaves it as large as it was.
    """
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    if isinstance(instance.event_log_storage, SqliteEventLogStorage):
        database = instance.event_log_storage.path_for_shard(run_id)
        for suffix in ("", "-journal", "-shm", "-wal"):
            Path(database + suffix).unlink(missing_ok=True)


def holds_newest_event(
    instance: dg.DagsterInstance, run_id: str, *, apart_from: str | None = None
) -> bool:
    """Whether deleting the run would make an asset, or a partition, look as if it was never made.

    ``apart_from``: a partition whose events do not count.
    """
    written = {
        (event.asset_key, event.partition)
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if (event := entry.dagster_event) is not None and event.asset_key is not None
    }
    for key, partition in written:
        if partition is not None and partition == apart_from:
            continue
        newest = instance.fetch_materializations(
            AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition]),
            limit=1,
        )
        if newest.records and newest.records[0].run_id == run_id:
            return True
    return False


@dg.job(
    description="Deletes old runs whose results have been replaced, with their events, output and "
    "pictures.",
    **job_labels("upkeep"),
)
def purge_old_runs() -> None:
    """Keeps the run database small; see docs/operations.md."""
    purge()
