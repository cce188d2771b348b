"""What is on reads the same however the code location was loaded."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._daemon.types import DaemonHeartbeat

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops import automation
from catalog_pipeline.defs.ops.recorded_runs import LOCATION_NAME


def turn_on(
    instance: dg.DagsterInstance, name: str, kind: InstigatorType, location: str = LOCATION_NAME
) -> None:
    """As the UI of ``make dev`` does: its code server listens on a socket made for this session."""
    server = GrpcServerCodeLocationOrigin(
        host="localhost", socket="a-session-of-its-own", location_name=location
    )
    repository = RemoteRepositoryOrigin(server, defs.get_repository_def().name)
    data = (
        SensorInstigatorData(cursor="kept")
        if kind is InstigatorType.SENSOR
        else ScheduleInstigatorData("30 2 * * *", start_timestamp=1.0)
    )
    origin = RemoteInstigatorOrigin(repository, name)
    instance.add_instigator_state(InstigatorState(origin, kind, InstigatorStatus.RUNNING, data))


def told(instance: dg.DagsterInstance) -> dict[str, str]:
    lines = automation.status_lines(instance, defs)[:-1]
    return {line.split()[1]: line.split()[2] for line in lines}


def test_what_the_ui_turned_on_is_running_and_all_of_it_can_be_stopped(
    instance: dg.DagsterInstance,
) -> None:
    repository = defs.get_repository_def()
    every = {item.name for item in (*repository.sensor_defs, *repository.schedule_defs)}
    assert told(instance) == dict.fromkeys(every, "STOPPED")
    turn_on(instance, "catalog_watch", InstigatorType.SENSOR)
    turn_on(instance, "nightly_generation", InstigatorType.SCHEDULE)
    turn_on(instance, "alerts", InstigatorType.SENSOR, location="somebody else's")
    on = {"catalog_watch", "nightly_generation"}
    assert told(instance) == dict.fromkeys(every, "STOPPED") | dict.fromkeys(on, "RUNNING")
    assert automation.stop_all(instance) == sorted(on)
    assert automation.stop_all(instance) == []
    assert told(instance) == dict.fromkeys(every, "STOPPED")
    (state,) = (
        state
        for state in instance.all_instigator_state()
        if state.instigator_name == "catalog_watch"
    )
    assert isinstance(state.instigator_data, SensorInstigatorData)
    assert state.instigator_data.cursor == "kept"


def test_it_says_whether_a_daemon_turns_what_is_on(instance: dg.DagsterInstance) -> None:
    assert automation.status_lines(instance, defs)[-1].startswith("no daemon runs")
    for daemon in (automation.SENSOR_DAEMON, automation.SCHEDULER_DAEMON):
        instance.add_daemon_heartbeat(DaemonHeartbeat(_now(), daemon, "one", []))
    assert automation.status_lines(instance, defs)[-1].startswith("a daemon runs")
    for daemon in (automation.SENSOR_DAEMON, automation.SCHEDULER_DAEMON):
        instance.add_daemon_heartbeat(DaemonHeartbeat(_now() - 600, daemon, "one", []))
    assert automation.status_lines(instance, defs)[-1].startswith("no daemon runs")


def _now() -> float:
    from dagster._time import get_current_timestamp

    return get_current_timestamp()


def test_the_command_stops_shows_and_refuses(
    empty_dagster_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", os.fspath(empty_dagster_home))
    assert automation.main(["stop"]) == 0
    assert capsys.readouterr().out == "stopped: nothing, all was off\n"
    assert automation.main([]) == 0
    assert "catalog_watch" in capsys.readouterr().out
    assert automation.main(["start"]) == 2
    assert "expected status or stop" in capsys.readouterr().err
