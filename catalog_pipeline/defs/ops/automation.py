"""``python -m catalog_pipeline.defs.ops.automation [status | stop]``: what is on; all off.

A sensor's state belongs to its name and its code location's. ``dagster sensor list`` looks it up
by the address of the code server instead, and `make dev` starts a new server each time: what was
turned on in the UI then reads as stopped. This reads the state by name.
"""

import sys
import warnings
from collections.abc import Sequence

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus
from dagster._daemon.controller import get_daemon_statuses

from catalog_pipeline import defs as defs_package
from catalog_pipeline.defs.ops.recorded_runs import LOCATION_NAME
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.errors import CatalogPipelineError

SENSOR_DAEMON = "SENSOR"
SCHEDULER_DAEMON = "SCHEDULER"
HEARTBEAT_TOLERANCE_SECONDS = 60
"""Beyond the half minute between two signs of life."""


def running(instance: dg.DagsterInstance) -> dict[str, InstigatorState]:
    """The state of every sensor and schedule of the project that is on, by name."""
    return {
        state.instigator_name: state
        for state in instance.all_instigator_state()
        if state.repository_selector.location_name == LOCATION_NAME
        and state.status is InstigatorStatus.RUNNING
    }


def status_lines(instance: dg.DagsterInstance, definitions: dg.Definitions) -> list[str]:
    """A line for each sensor and schedule, and one that says whether a daemon turns them."""
    on = running(instance)
    repository = definitions.get_repository_def()
    lines = []
    for sensor in sorted(repository.sensor_defs, key=lambda item: item.name):
        every = f"every {sensor.minimum_interval_seconds or 30} s"
        lines.append(_line("sensor", sensor.name, sensor.name in on, every))
    for schedule in sorted(repository.schedule_defs, key=lambda item: item.name):
        when = f"at {schedule.cron_schedule} {schedule.execution_timezone or 'UTC'}"
        lines.append(_line("schedule", schedule.name, schedule.name in on, when))
    if daemon_runs(instance):
        return [*lines, "a daemon runs: what is RUNNING is evaluated"]
    return [*lines, "no daemon runs, so nothing is evaluated: start `make dev` or dagster-daemon"]


def _line(kind: str, name: str, is_on: bool, when: str) -> str:
    return f"{kind:<9}{name:<26}{'RUNNING' if is_on else 'STOPPED':<9}{when}"


def daemon_runs(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon that evaluates sensors and schedules lives."""
    found = get_daemon_statuses(
        instance,
        [SENSOR_DAEMON, SCHEDULER_DAEMON],
        # One that meets an error in a tick runs all the same.
        ignore_errors=True,
        heartbeat_tolerance_seconds=HEARTBEAT_TOLERANCE_SECONDS,
    )
    return all(daemon.healthy for daemon in found.values())


def stop_all(instance: dg.DagsterInstance) -> list[str]:
    """Turn every sensor and schedule of the project off; the names of those that were on.

    Runs that have begun go on. A sensor keeps its cursor: turned on again, it goes on from there.
    """
    stopped = running(instance)
    for state in stopped.values():
        instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))
    return sorted(stopped)


def main(arguments: Sequence[str]) -> int:
    """Print the state, or stop everything; the exit status."""
    if list(arguments) not in ([], ["status"], ["stop"]):
        print(f"error: got {' '.join(arguments)!r}; expected status or stop", file=sys.stderr)
        return 2
    with dg.DagsterInstance.get() as instance:
        if list(arguments) == ["stop"]:
            stopped = stop_all(instance)
            print(f"stopped: {', '.join(stopped) or 'nothing, all was off'}")
            return 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", dg.PreviewWarning)
                found = dg.load_definitions_from_package_module(
                    defs_package, resources={"pipeline": PipelineResource()}
                )
        except CatalogPipelineError as error:  # a wrong time zone or first day
            print(f"error: {error}", file=sys.stderr)
            return 1
        print("\n".join(status_lines(instance, found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
