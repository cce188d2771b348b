"""The sensor ``alerts`` over a real instance: every finding once, whatever a channel does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.test_utils import create_run_for_test

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops import alerts
from catalog_pipeline.defs.ops.recorded_runs import execute_recorded
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from catalog_pipeline.workflows.upkeep import alert_channels
from tests.defs.scratch_line import Line
from tests.listeners import Webhook, everything_in, running_webhook

CANARY = "correct-horse-9f3a"


class Watch:
    """The sensor as the daemon evaluates it: each tick has the cursor of the one before."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None

    def tick(self) -> SensorExecutionData:
        repository = defs.get_repository_def()
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=repository,
            resources=repository.get_top_level_resources(),
            sensor_name=alerts.SENSOR_NAME,
        ) as context:
            done = repository.get_sensor_def(alerts.SENSOR_NAME).evaluate_tick(context)
        self.cursor = done.cursor
        assert not done.run_requests
        return done


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as listener:
        yield listener


@pytest.fixture
def watched(line: Line, webhook: Webhook) -> Line:
    """A line whose messages go to the webhook, and for which no night is ever late."""
    write_alerts(line, webhook, stale_after="never")
    return line


def write_alerts(line: Line, webhook: Webhook, **changes: object) -> None:
    content = {"webhook_url": webhook.url, "ui_url": "https://ops.example.com/", **changes}
    path = line.settings.config_dir / "alerts.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def failed_run(instance: dg.DagsterInstance, reason: str, **tags: str) -> dg.DagsterRun:
    run = create_run_for_test(instance, job_name="learn_new_skus", tags=tags)
    instance.report_run_failed(run, message=reason)
    return run


def test_what_failed_before_the_first_tick_is_not_told(
    watched: Line, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    failed_run(instance, "before anybody was to be told")
    watch = Watch(instance)
    watch.tick()
    watch.tick()
    assert webhook.payloads == []
    watched.add_product("mug", photos=1)
    watched.add_product("vase")
    assert all(run.is_success for run in tick_sensor_and_run(instance, defs))
    watch.tick()
    assert webhook.payloads == []


def test_a_step_that_failed_gives_its_own_words(
    watched: Line, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    watch = Watch(instance)
    watch.tick()
    (watched.settings.config_dir / "catalogs.yaml").write_text("min_photos: many\n", "utf-8")
    run = execute_recorded(instance, defs, "refresh_catalog")
    assert run.is_failure
    (watched.settings.config_dir / "catalogs.yaml").write_text("min_photos: 3\n", "utf-8")
    watch.tick()
    watch.tick()
    (told,) = webhook.payloads
    assert told["key"] == f"run/{run.run_id}"
    assert "min_photos" in told["reason"]
    assert told["link"] == f"https://ops.example.com/runs/{run.run_id}"
    assert told["subject"] == "refresh_catalog"
    assert "Re-execute from failure" in told["action"]


def test_a_run_that_is_started_once_more_says_so(
    watched: Line, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    watch = Watch(instance)
    watch.tick()
    failed_run(instance, "its process died", sku="mug", **{"dagster/will_retry": "true"})
    failed_run(instance, "again", sku="mug", **{"dagster/max_retries": "0"})
    watch.tick()
    first, second = webhook.payloads
    assert first["title"].endswith("of learn_new_skus (mug) failed")
    assert "Dagster starts it once more" in first["action"]
    assert "Re-execute" in second["action"]


def test_a_webhook_that_recovers_gets_everything_once(
    watched: Line, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    watch = Watch(instance)
    watch.tick()
    webhook.status = 500
    runs = [failed_run(instance, f"reason {number}") for number in range(3)]
    done = watch.tick()
    assert "3 messages wait" in str(done.skip_message)
    assert "answered 500" in str(done.skip_message)
    assert watch.tick().cursor == done.cursor
    webhook.status = 200
    watch.tick()
    watch.tick()
    assert webhook.keys == [f"run/{run.run_id}" for run in runs]


def test_a_refused_candidate_is_told_once_and_again_when_it_is_another(
    watched: Line, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    watched.add_product("mug")
    tick_sensor_and_run(instance, defs)
    home = watched.home

    def refuse(fingerprint: str) -> None:
        report = json.dumps({"sku": "mug", "complaint": f"fell ({fingerprint})"}).encode()
        home.objects.put(f"collections/default/quarantine/mug-{fingerprint}/report.json", report)

    refuse("aa")
    watch = Watch(instance)
    watch.tick()
    assert webhook.payloads == []  # it was there before anybody was to be told
    refuse("aa")
    refuse("bb")
    watch.tick()
    watch.tick()
    (told,) = webhook.payloads
    assert (told["kind"], told["subject"], told["reason"]) == (
        "candidate_refused",
        "mug",
        "fell (bb)",
    )
    home.objects.delete("collections/default/quarantine/mug-bb/report.json")
    watch.tick()
    refuse("bb")
    watch.tick()
    assert len(webhook.payloads) == 2


def test_a_late_night_is_told_once_with_what_became_of_its_run(
    line: Line, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    write_alerts(line, webhook, stale_after="00:00")
    watch = Watch(instance)
    watch.tick()
    assert webhook.payloads == []  # nothing is learned, so no night is due
    line.add_product("mug")
    tick_sensor_and_run(instance, defs)
    today = datetime.now(UTC).date().isoformat()
    run = create_run_for_test(
        instance, job_name="nightly_generation", tags={"dagster/partition": today}
    )
    late = Watch(instance)
    late.tick()
    late.tick()
    (told,) = webhook.payloads
    assert (told["kind"], told["subject"]) == ("night_late", today)
    assert told["reason"] == "no manifest by 00:00; its newest run is not_started"
    assert told["link"] == f"https://ops.example.com/runs/{run.run_id}"
    published = line.settings.home / "manifest" / f"dt={today}" / "part-0.parquet"
    published.parent.mkdir(parents=True)
    published.touch()
    Watch(instance).tick()
    assert len(webhook.payloads) == 1


def test_a_home_that_cannot_be_read_holds_up_no_failed_run(
    watched: Line, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    watch = Watch(instance)
    watch.tick()
    watched.home.objects.put("catalog/index.parquet", b"no Parquet")
    failed_run(instance, "the index is broken")
    watch.tick()
    assert [payload["kind"] for payload in webhook.payloads] == ["run_failed"]


@pytest.mark.parametrize("cursor", [None, "", "{", "[]", '{"waiting": [1]}', '{"night": "x"}'])
def test_a_cursor_that_a_person_wrote_begins_anew(cursor: str | None) -> None:
    assert alerts.AlertState.from_cursor(cursor) == alerts.AlertState()


def test_no_secret_reaches_the_instance_the_home_or_the_log(
    watched: Line,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    webhook: Webhook,
) -> None:
    for name in (alert_channels.SMTP_PASSWORD_ENV, alert_channels.WEBHOOK_TOKEN_ENV):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv(alert_channels.WEBHOOK_URL_ENV, f"{webhook.url}/{CANARY}")
    watch = Watch(instance)
    watch.tick()
    webhook.status = 500
    failed_run(instance, "a reason")
    done = watch.tick()
    assert webhook.headers[0]["Authorization"] == f"Bearer {CANARY}"
    printed = "".join(capfd.readouterr())
    assert "a reason" in printed  # the channel `log`
    for text in (printed, str(done.skip_message), str(done.cursor)):
        assert CANARY not in text
    assert CANARY.encode() not in everything_in(Path(instance.root_directory))
    assert CANARY.encode() not in everything_in(watched.settings.home)
