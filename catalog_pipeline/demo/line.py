"""The project's definitions on a Dagster instance of the demo's own, run in this process."""

from __future__ import annotations

import logging
import sys
import warnings
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops.recorded_runs import execute_recorded
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from catalog_pipeline.defs.partitions import schedule_timezone
from catalog_pipeline.demo.results import say
from catalog_pipeline.errors import CatalogPipelineError
from catalog_pipeline.workflows.home import Home

INTERRUPTED = "DagsterExecutionInterruptedError"

# A logger is used only by a run whose configuration names it.
_QUIET: dict[str, Any] = {"loggers": {"console": {}}}


class Line:
    """The project's definitions on the demo's own Dagster instance, run in this process."""

    def __init__(self, home: Home) -> None:
        # Dagster's announcements about its own parameters say nothing to who runs a demo.
        warnings.filterwarnings("ignore", module="dagster")
        self._home = home
        self._instance = dg.DagsterInstance.get()
        self._defs = dg.Definitions.merge(defs, dg.Definitions(loggers={"console": _quiet_log()}))
        self.night: date = datetime.now(ZoneInfo(schedule_timezone())).date()

    def run(self, job: str, *, partition_key: str | None = None) -> None:
        """Run ``job`` to its end.

        Raises:
            CatalogPipelineError: the run failed.
        """
        run = execute_recorded(
            self._instance, self._defs, job, run_config=_QUIET, partition_key=partition_key
        )
        if not run.is_success:
            raise self._failure(job, run.run_id)

    def render_night(self) -> None:
        """Plan, render and publish the demo's night; says what its manifest then holds.

        Raises:
            CatalogPipelineError: the run failed.
        """
        archive = self._home.archive
        before = {row.image_id for row in archive.read_day(self.night)}
        self.run("nightly_generation", partition_key=self.night.isoformat())
        rows = archive.read_day(self.night)
        current = {row.image_id for row in rows if not row.superseded}
        say(
            f"the night shows {len(current)} images: {len(current & before)} kept, "
            f"{len(current - before)} new; {len(rows) - len(current)} superseded"
        )

    def tick(self) -> set[str]:
        """Let the sensor look once and run what it asks for; the SKUs that it asked for.

        Raises:
            CatalogPipelineError: a run failed.
        """
        asked: set[str] = set()
        for run in tick_sensor_and_run(self._instance, self._defs, run_config=_QUIET):
            if not run.is_success:
                raise self._failure(run.job_name, run.run_id)
            asked.update(run.tags["sku"].split(","))
        return asked

    def _failure(self, job: str, run_id: str) -> BaseException:
        """Why the run failed: Ctrl-C, which Dagster records as a failure, or its steps' words."""
        reasons = []
        for entry in self._instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
            failure = entry.get_dagster_event().step_failure_data
            if failure.error and failure.error.cls_name == INTERRUPTED:
                return KeyboardInterrupt()
            said = failure.user_failure_data.description if failure.user_failure_data else None
            reasons.append(said or (failure.error.message.strip() if failure.error else "unknown"))
        words = "; ".join(reasons) or "see its log"
        return CatalogPipelineError(f"the Dagster run {run_id} of {job} failed: {words}")


def _quiet_log() -> dg.LoggerDefinition:
    """Dagster's console log reduced to what steps say, one short line each, on stdout."""

    def console(_: dg.InitLoggerContext) -> logging.Logger:
        log = logging.Logger("demo", level=logging.INFO)
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("      {dagster_meta[orig_message]}", style="{"))
        log.addHandler(handler)
        return log

    return dg.LoggerDefinition(console, description="What steps say, one short line each.")
