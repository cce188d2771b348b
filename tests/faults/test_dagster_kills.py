"""SIGKILL of everything that Dagster runs, while it learns and renders on a tiny real model.

One daemon serves the whole module, on the shipped ``dagster.yaml``. Where a process must
be hit at a certain point, it is armed: see :mod:`tests.faults.armed_definitions`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.plan_night import read_plan
from tests.faults.dagster_stack import Stack, is_alive, kill, running_stack, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FAILURE, SUCCESS = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS
NIGHT = date(2026, 2, 3)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack"), tiny_model_folder) as running:
        yield running


def assert_learned_once(stack: Stack, sku: str) -> None:
    assert stack.status(sku) == "learned"
    assert stack.is_served(sku)
    assert len(stack.versions_with(sku)) == 1
    assert open_home(stack.settings).adapters("default").staging_names() == []
    assert stack.pool_is_free("learning")


def learning_run(stack: Stack, sku: str, action: str = "wait", point: str = "learning"):
    """A run that learns a new product, and the pid of its worker, which waits or has died."""
    stack.add_product(sku, (200, 30, len(sku)))
    stack.arm(action, point)
    run_id = stack.learn(sku)
    return run_id, stack.reached()


@pytest.mark.parametrize("point", ["learning", "promotion"])
def test_a_worker_killed_while_it_learns(stack: Stack, point: str) -> None:
    run_id, dead = learning_run(stack, f"cup-{point}", "kill", point)
    assert stack.finished(run_id).status is FAILURE
    assert not is_alive(dead)
    before = open_home(stack.settings).adapters("default")
    # In promotion the version is published and not served; in learning there is none yet.
    assert len(stack.versions_with(f"cup-{point}")) == (point == "promotion")
    assert before.current() is None or before.current().concept(f"cup-{point}") is None  # type: ignore[union-attr]
    assert stack.retry_of(run_id).status is SUCCESS
    assert_learned_once(stack, f"cup-{point}")


def test_a_code_server_killed_while_its_worker_learns(stack: Stack) -> None:
    run_id, worker = learning_run(stack, "cup-server")
    server = stack.server_of(worker)
    kill(server.pid)
    assert is_alive(worker)
    stack.go_on()
    assert stack.finished(run_id).status is SUCCESS
    wait_for(lambda: not is_alive(worker), "the end of the worker")
    assert_learned_once(stack, "cup-server")
    # The daemon has another one within a minute.
    wait_for(lambda: stack.code_server().pid != server.pid, "a new code server")


def test_a_run_that_comes_due_while_the_code_server_is_away(stack: Stack) -> None:
    kill(stack.code_server().pid)
    run_id = stack.launch("purge_old_runs", {})
    assert stack.finished(run_id).status is SUCCESS


def test_a_code_server_and_its_worker_killed_together(stack: Stack) -> None:
    run_id, worker = learning_run(stack, "cup-both")
    kill(stack.server_of(worker).pid)
    kill(worker)
    # Dagster's own launcher would call the run started for six hours.
    assert stack.finished(run_id).status is FAILURE
    assert stack.retry_of(run_id).status is SUCCESS
    assert_learned_once(stack, "cup-both")


def test_a_daemon_killed_while_a_worker_learns(stack: Stack) -> None:
    run_id, worker = learning_run(stack, "cup-daemon")
    daemon = stack.daemon()
    kill(daemon.pid)
    stack.add_product("cup-queued", (10, 120, 120))
    queued = stack.learn("cup-queued")
    stack.start_second_daemon()
    stack.code_server()
    # The first run still holds the pool, so the new daemon, which looks at its queue every
    # 5 s, keeps the second one waiting.
    time.sleep(15.0)
    assert stack.instance.get_run_by_id(queued).status is dg.DagsterRunStatus.QUEUED  # type: ignore[union-attr]
    assert is_alive(worker)
    stack.go_on()
    assert stack.finished(run_id).status is SUCCESS
    assert stack.finished(queued).status is SUCCESS
    assert_learned_once(stack, "cup-daemon")
    assert_learned_once(stack, "cup-queued")


def test_a_power_cut(stack: Stack) -> None:
    run_id, worker = learning_run(stack, "cup-power")
    stack.stop()
    assert not is_alive(worker)
    stack.start_daemon()
    assert stack.finished(run_id).status is FAILURE
    assert stack.retry_of(run_id).status is SUCCESS
    assert_learned_once(stack, "cup-power")


def test_a_command_line_learn_against_a_run_of_the_same_product(stack: Stack) -> None:
    run_id, _ = learning_run(stack, "cup-twice")
    options = ["--config", stack.environment[CONFIG_ENV], "--home", stack.environment[HOME_ENV]]
    command = [sys.executable, "-m", "catalog_pipeline.cli", "learn", "cup-twice"]
    with subprocess.Popen(
        [*command, *options], env=dict(stack.environment), stdout=subprocess.PIPE
    ) as rival:
        with pytest.raises(subprocess.TimeoutExpired):
            rival.wait(timeout=15)
        stack.go_on()
        assert stack.finished(run_id).status is SUCCESS
        said, _ = rival.communicate(timeout=600)
    assert rival.returncode == 0
    assert "unchanged" in said.decode()
    assert_learned_once(stack, "cup-twice")


@pytest.mark.parametrize(("point", "day"), [("images", 3), ("manifest", 4)])
def test_a_worker_killed_while_it_renders_or_publishes(stack: Stack, point: str, day: int) -> None:
    if open_home(stack.settings).adapters("default").head() is None:
        stack.add_product("cup-night", (60, 90, 120))
        assert stack.finished(stack.learn("cup-night")).status is SUCCESS
    night = NIGHT.replace(day=day)
    archive = open_home(stack.settings).archive
    stack.arm("kill", point)
    run_id = stack.launch("nightly_generation", {"dagster/partition": night.isoformat()})
    dead = stack.reached()
    assert stack.finished(run_id).status is FAILURE
    assert not is_alive(dead)
    assert archive.read_day(night) == []
    finished = {row.path for row in archive.staged(night)}
    assert stack.retry_of(run_id).status is SUCCESS
    rows = archive.read_day(night)
    planned = {job.job_id for job in read_plan(open_home(stack.settings), night).jobs}
    assert len(planned) == len(rows) > 0
    assert {row.image_id for row in rows} == planned
    assert finished <= {row.path for row in rows}
    assert not any(row.superseded for row in rows)
    assert archive.verify_day(night) == []
    assert archive.staged(night) == []
    assert len(archive.versions(night)) == 1
    assert stack.pool_is_free("generation")
