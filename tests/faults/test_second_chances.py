"""Who asks again after a failure: the nightly retry, the watcher, the health check of runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test

from catalog_pipeline.catalog.index import mark_failed
from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.catalog import sensors
from catalog_pipeline.defs.catalog.requests import MAX_NIGHTLY_RETRIES
from catalog_pipeline.defs.learning.schedules import SCHEDULE_NAME
from catalog_pipeline.defs.ops import run_launcher
from catalog_pipeline.defs.ops.run_launcher import WatchedRunLauncher
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.upkeep.versions import rollback
from tests.defs.scratch_line import Line


def retries(instance: dg.DagsterInstance, day: int) -> list[dg.RunRequest]:
    """What the schedule asks for in the night of a day in May."""
    repository = defs.get_repository_def()
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime(2026, 5, day, 1, 45, tzinfo=UTC),
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        tick = repository.get_schedule_def(SCHEDULE_NAME).evaluate_tick(context)
    assert tick.run_requests or tick.skip_message
    return list(tick.run_requests or ())


def note_failed_run(instance: dg.DagsterInstance, request: dg.RunRequest) -> None:
    """What a request leaves in the instance that failed once more, its automatic retry too."""
    tags = {**request.tags, "dagster/schedule_name": SCHEDULE_NAME}
    failed = {"job_name": "learn_new_skus", "status": dg.DagsterRunStatus.FAILURE, "tags": tags}
    first = create_run_for_test(instance, **failed)
    create_run_for_test(instance, **failed, parent_run_id=first.run_id, root_run_id=first.run_id)


def run(instance: dg.DagsterInstance, request: dg.RunRequest) -> bool:
    """Run a request as the daemon does, with the tags it adds."""
    result = defs.resolve_job_def("learn_new_skus").execute_in_process(
        instance=instance,
        tags={**request.tags, "dagster/schedule_name": SCHEDULE_NAME},
        raise_on_error=False,
    )
    return result.success


def test_a_failed_product_is_retried_once_a_night_and_not_for_ever(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("mug")
    line.add_product("vase")
    line.write("refused_skus.txt", "mug")
    tick_sensor_and_run(instance, defs)
    assert line.statuses() == {"mug": "failed", "vase": "learned"}
    for night in range(1, MAX_NIGHTLY_RETRIES + 1):
        (request,) = retries(instance, night)
        assert request.tags["sku"] == "mug"
        # Asked twice in one night, it is one run: the key is the night's.
        assert [again.run_key for again in retries(instance, night)] == [request.run_key]
        note_failed_run(instance, request)
    assert retries(instance, 9) == []
    # Other photos start the count anew, once they have failed too.
    line.add_product("mug", seed=3)
    refresh_index(line.home)
    row = next(row for row in line.home.index.read() if row.sku == "mug")
    line.home.index.update(lambda rows: mark_failed(rows, "mug", row.content_hash, "no"))
    (request,) = retries(instance, 10)
    line.write("refused_skus.txt")
    assert run(instance, request)
    assert line.statuses() == {"mug": "learned", "vase": "learned"}
    assert retries(instance, 11) == []


def test_photos_that_return_have_three_nights_again(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("mug", seed=1)
    line.write("refused_skus.txt", "mug")
    tick_sensor_and_run(instance, defs)
    for night in range(1, MAX_NIGHTLY_RETRIES + 1):
        (request,) = retries(instance, night)
        note_failed_run(instance, request)
    assert retries(instance, 8) == []
    for seed in (2, 1):  # other photos, then the same ones again; all fail
        line.add_product("mug", seed=seed)
        (asked,) = tick_sensor_and_run(instance, defs)
        assert not asked.is_success
    assert asked.tags["dagster/run_key"].endswith(":2")
    for night in range(9, 9 + MAX_NIGHTLY_RETRIES):
        (request,) = retries(instance, night)
        note_failed_run(instance, request)
    assert retries(instance, 20) == []


def test_what_a_person_rolled_back_is_not_learned_again_at_night(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("mug")
    tick_sensor_and_run(instance, defs)
    first = line.home.adapters("default").current()
    assert first is not None
    line.add_product("vase")
    tick_sensor_and_run(instance, defs)
    rollback(line.home, first.version, "default")
    assert line.statuses() == {"mug": "learned", "vase": "failed"}
    assert retries(instance, 1) == []


def test_the_watcher_does_not_wait_for_ever_for_a_retry_that_never_came(
    line: Line, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.add_product("mug")
    line.write("dies_at.txt", "mug")
    (died,) = tick_sensor_and_run(instance, defs)
    # The daemon meant to retry, and the code server was away at that moment.
    instance.add_run_tags(died.run_id, {sensors.WILL_RETRY_TAG: "true"})
    assert tick_sensor_and_run(instance, defs) == []
    monkeypatch.setattr(sensors, "RETRY_PATIENCE_SECONDS", 0.0)
    (second,) = tick_sensor_and_run(instance, defs)
    assert second.is_success
    assert second.tags["dagster/run_key"].endswith(":2")


def test_a_queued_run_waits_longer_for_a_code_server_than_a_daemon_needs_for_a_new_one(
    instance: dg.DagsterInstance,
) -> None:
    queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    assert queue.max_concurrent_runs == 2
    assert queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay > 60


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a run worker from outside."""
    code = "import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, "--multiprocessing-fork"]) as process:
        yield process
        process.kill()


def started_run(instance: dg.DagsterInstance, pid: int, host: str = "localhost") -> dg.DagsterRun:
    """A run in the state in which a worker with ``pid`` has left it; its server is gone."""
    server = json.dumps({"host": host, "socket": "/nowhere/dagster.sock"})
    found = create_run_for_test(
        instance,
        job_name="learn_new_skus",
        status=dg.DagsterRunStatus.STARTED,
        tags={GRPC_INFO_TAG: server},
    )
    instance.report_engine_event("started", found, EngineEventData.in_process(pid))
    return found


def test_a_started_run_is_dead_when_its_process_and_its_server_are(
    instance: dg.DagsterInstance,
    worker: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launcher = instance.run_launcher
    assert isinstance(launcher, WatchedRunLauncher)
    assert launcher.supports_check_run_worker_health
    mine = started_run(instance, worker.pid)
    assert launcher.check_run_worker_health(mine).status is WorkerStatus.RUNNING
    worker.kill()
    worker.wait()
    # First it is given the time in which a daemon replaces a dead code server.
    assert launcher.check_run_worker_health(mine).status is WorkerStatus.RUNNING
    monkeypatch.setattr(run_launcher, "PATIENCE_SECONDS", 0.0)
    dead = launcher.check_run_worker_health(mine)
    assert dead.status is WorkerStatus.FAILED
    assert f"its process {worker.pid} is gone" in str(dead)


def test_a_number_taken_over_by_another_program_is_not_a_worker(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_launcher, "PATIENCE_SECONDS", 0.0)
    launcher = instance.run_launcher
    assert isinstance(launcher, WatchedRunLauncher)
    other = started_run(instance, os.getppid())
    elsewhere = started_run(instance, os.getppid(), host="10.0.0.7")
    assert launcher.check_run_worker_health(other).status is WorkerStatus.FAILED
    assert launcher.check_run_worker_health(elsewhere).status is WorkerStatus.RUNNING
