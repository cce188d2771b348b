"""``alerts``: failed runs, refused candidates and late nights are told to a person, once each."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.execution.plan.objects import StepFailureData

from catalog_pipeline.defs.catalog.sensors import SKU_TAG, WILL_RETRY_TAG
from catalog_pipeline.defs.generation.jobs import nightly_generation
from catalog_pipeline.defs.learning.concept_events import CONCEPT_KEY
from catalog_pipeline.defs.partitions import schedule_timezone
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.defs.sku_shards import shard_holding
from catalog_pipeline.errors import CatalogPipelineError

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home
    from catalog_pipeline.workflows.upkeep.alerts import Alert, Waiting

SENSOR_NAME = "alerts"
PARTITION_TAG = "dagster/partition"
DAY_TAG = "day"
FAILED_RUNS_A_TICK = 100


@dataclass(frozen=True)
class AlertState:
    """What the cursor holds.

    ``failed_after`` is the number of the last failure looked at, ``refused`` the candidates
    in quarantine, ``night`` the last night looked at. ``None``: not looked yet, so what is
    there already is not told.
    """

    failed_after: int | None = None
    refused: tuple[str, ...] | None = None
    night: date | None = None
    waiting: tuple["Waiting", ...] = field(default=())

    def to_cursor(self) -> str:
        """The same state and text for the same findings."""
        return json.dumps(
            {
                "failed_after": self.failed_after,
                "refused": self.refused,
                "night": self.night and self.night.isoformat(),
                "waiting": [asdict(item) for item in self.waiting],
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "AlertState":
        """The state of a cursor; a first one where there is none, or where a person wrote it."""
        from catalog_pipeline.workflows.upkeep.alerts import Alert, Waiting

        try:
            content: dict[str, Any] = json.loads(cursor or "{}")
            refused, night = content.get("refused"), content.get("night")
            return cls(
                failed_after=content.get("failed_after"),
                refused=None if refused is None else tuple(refused),
                night=date.fromisoformat(night) if night else None,
                waiting=tuple(
                    Waiting(Alert(**item["alert"]), tuple(item["channels"]))
                    for item in content.get("waiting", ())
                ),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()


@dg.sensor(
    name=SENSOR_NAME,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Tells a person of every failed run, refused candidate and late night, once each: in this "
        "log, by webhook or by e-mail, as alerts.yaml says. Starts no run."
    ),
)
def alerts(context: dg.SensorEvaluationContext, pipeline: PipelineResource) -> dg.SensorResult:
    """Looks for findings, then sends what waits; see docs/operations.md, Alerts.

    What a channel did not take waits in the cursor for the next tick. A tick that dies between
    sending and its end sends once more; the message has the same key and Message-ID then.
    """
    from catalog_pipeline.workflows.upkeep.alerts import deliver, enqueue, open_channels

    home = pipeline.opened
    settings = home.settings.alerts
    channels = open_channels(settings, context.log.error)
    state, found = _look(context, home, AlertState.from_cursor(context.cursor))
    waiting, dropped = enqueue(state.waiting, found, tuple(channels))
    if dropped:
        context.log.error(f"the {dropped} oldest waiting messages were dropped: too many wait")
    still, problems = deliver(waiting, channels, settings.max_per_tick)
    for problem in problems:
        context.log.warning(f"a message waits for the next tick: {problem}")
    words = f"{len(found)} new findings, {len(still)} messages wait"
    return dg.SensorResult(
        skip_reason=words + "".join(f"; {problem}" for problem in problems),
        cursor=replace(state, waiting=tuple(still)).to_cursor(),
    )


def _look(
    context: dg.SensorEvaluationContext, home: "Home", state: AlertState
) -> tuple[AlertState, list["Alert"]]:
    """The state after looking, and what is new; a home that cannot be read is looked at later."""
    from catalog_pipeline.workflows.upkeep.alerts import (
        late_nights,
        nights_to_look_at,
        refused_candidates,
    )

    state, found = _failed_runs(context.instance, home, state)
    try:
        present, refusals = refused_candidates(home, state.refused or ())
        if state.refused is not None:
            found += [_in_its_shard(context.instance, refusal) for refusal in refusals]
        nights = nights_to_look_at(state.night, datetime.now(ZoneInfo(schedule_timezone())), home)
        found += [_with_run(context.instance, home, late) for late in late_nights(home, nights)]
    except CatalogPipelineError as error:
        context.log.warning(f"the home cannot be looked at, so the next tick tries again: {error}")
        return state, found
    night = nights[-1] if nights else state.night
    return replace(state, refused=tuple(present), night=night), found


def _failed_runs(
    instance: dg.DagsterInstance, home: "Home", state: AlertState
) -> tuple[AlertState, list["Alert"]]:
    """A message for each run that failed since; the first look tells of none."""
    if state.failed_after is None:
        failures = dg.DagsterEventType.RUN_FAILURE
        newest = instance.fetch_run_status_changes(failures, limit=1).records
        return replace(state, failed_after=newest[0].storage_id if newest else 0), []
    records = instance.fetch_run_status_changes(
        dg.RunStatusChangeRecordsFilter(
            dg.DagsterEventType.RUN_FAILURE, after_storage_id=state.failed_after
        ),
        limit=FAILED_RUNS_A_TICK,
        ascending=True,
    ).records
    runs = [instance.get_run_by_id(record.run_id) for record in records]
    found = [_failure(instance, home, run) for run in runs if run is not None]
    last = records[-1].storage_id if records else state.failed_after
    return replace(state, failed_after=last), found


def _failure(instance: dg.DagsterInstance, home: "Home", run: dg.DagsterRun) -> "Alert":
    from catalog_pipeline.workflows.upkeep.alerts import Alert, one_line

    subject = next(
        (run.tags[tag] for tag in (SKU_TAG, PARTITION_TAG, DAY_TAG) if run.tags.get(tag)),
        run.job_name,
    )
    about = "" if subject == run.job_name else f" ({subject})"
    action = "open the run; correct what its error names, then Re-execute from failure"
    if run.tags.get(WILL_RETRY_TAG) == "true":
        action = "nothing yet: Dagster starts it once more; if that fails too, a message follows"
    return Alert(
        key=f"run/{run.run_id}",
        kind="run_failed",
        subject=subject,
        title=one_line(f"the run {run.run_id[:8]} of {run.job_name}{about} failed", 200),
        reason=one_line("; ".join(_reasons(instance, run)) or "its process died"),
        action=action,
        link=_run_link(home, run),
    )


def _reasons(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Sequence[str]:
    """What the failed steps said, or the run itself where no step had begun."""
    said = []
    entries = instance.all_logs(
        run.run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    )
    for entry in entries:
        event = entry.get_dagster_event()
        if event.is_step_failure:
            said.append(_step_reason(event.step_failure_data))
        elif not said:
            said.append(event.message or "")
    return said


def _step_reason(failure: StepFailureData) -> str:
    """What a step said by ``Failure``, else its error without Dagster's own around it."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error
    if error is not None and (error.cls_name or "").startswith("Dagster") and error.cause:
        error = error.cause
    if error is None:
        return "no reason given"
    return error.message.partition(f"{error.cls_name}: ")[2] or error.message


def _in_its_shard(instance: dg.DagsterInstance, refusal: "Alert") -> "Alert":
    """The message with the link to the asset that has the product's partition."""
    key = shard_holding(instance, refusal.subject).key(CONCEPT_KEY)
    link = refusal.link.replace(CONCEPT_KEY.to_user_string(), key.to_user_string(), 1)
    return replace(refusal, link=link)


def _with_run(instance: dg.DagsterInstance, home: "Home", late: "Alert") -> "Alert":
    """The message with what became of the night's newest run."""
    runs = instance.get_runs(
        filters=dg.RunsFilter(job_name=nightly_generation.name, tags={PARTITION_TAG: late.subject}),
        limit=1,
    )
    if not runs:
        return replace(late, reason=f"{late.reason}; no run of it was ever asked for")
    status = runs[0].status.value.lower()
    return replace(
        late, reason=f"{late.reason}; its newest run is {status}", link=_run_link(home, runs[0])
    )


def _run_link(home: "Home", run: dg.DagsterRun) -> str:
    return f"{home.settings.alerts.ui_url.rstrip('/')}/runs/{run.run_id}"
