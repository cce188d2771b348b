from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.generation.images import found_check
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from catalog_pipeline.records import RenderReport, SkuPassRate
from catalog_pipeline.workflows.upkeep.archive_summary import query_archive, repeated_image_ids
from tests.defs.scratch_line import Line

DAY = "2026-02-03"


@pytest.fixture
def learned_line(line: Line, instance: dg.DagsterInstance) -> Line:
    line.add_products("00123", "mug_b")
    tick_sensor_and_run(instance, defs)
    return line


def run_night(instance: dg.DagsterInstance, day: str = DAY) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("nightly_generation").execute_in_process(
        instance=instance, partition_key=day, raise_on_error=False
    )


def schedule_tick(
    instance: dg.DagsterInstance, name: str, when: datetime
) -> dg.RunRequest | dg.SkipReason:
    repository = defs.get_repository_def()
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=when,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        tick = repository.get_schedule_def(name).evaluate_tick(context)
    if tick.skip_message:
        return dg.SkipReason(tick.skip_message)
    (request,) = tick.run_requests or ()
    return request


def test_a_night_is_planned_rendered_published_and_counted(
    learned_line: Line, instance: dg.DagsterInstance
) -> None:
    result = run_night(instance)
    assert result.success
    assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()} == {
        "memory_head_is_consistent": True,
        "learned_skus_are_served": True,
        "named_products_are_found": True,
        "night_is_complete": True,
        "manifest_rows_match_files": True,
        "archive_has_unique_image_ids": True,
    }
    found = query_archive(learned_line.home)
    assert found.per_day == [{"day": DAY, "rows": 3, "superseded": 0, "skus": 2}]
    assert found.per_sku == [
        {"sku": "00123", "rows": 2, "nights": 1},
        {"sku": "mug_b", "rows": 2, "nights": 1},
    ]
    for key in ("generation/plan", "generation/images", "archive/image_manifest"):
        asset = dg.AssetKey(key.split("/"))
        assert set(instance.get_materialized_partitions(asset)) == {DAY}
        (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key == asset]
        assert event.materialization.metadata["dagster/row_count"].value == 3


def test_a_second_run_of_the_night_changes_nothing(
    learned_line: Line, instance: dg.DagsterInstance
) -> None:
    run_night(instance)
    manifest = learned_line.settings.home / "manifest" / f"dt={DAY}" / "part-0.parquet"
    before = manifest.read_bytes()
    result = run_night(instance)
    assert result.success
    assert manifest.read_bytes() == before
    metadata = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    assert metadata["generation/images"]["rendered"].value == 0
    assert metadata["generation/images"]["reused"].value == 3
    assert metadata["archive/image_manifest"]["changed"].value is False


def test_a_lost_picture_stops_the_night_after_the_manifest(
    learned_line: Line, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from catalog_pipeline.workflows.night import publish_manifest as publishing

    publish = publishing.publish_manifest

    def publish_then_lose(settings: object, day: object) -> object:
        report = publish(settings, day)  # type: ignore[arg-type]
        next(Path(learned_line.settings.home, "images").glob("*.png")).unlink()
        return report

    monkeypatch.setattr(publishing, "publish_manifest", publish_then_lose)
    result = run_night(instance)
    assert not result.success
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert not checks["manifest_rows_match_files"].passed
    assert "not stored" in str(checks["manifest_rows_match_files"].metadata["problems"].value)
    assert instance.get_latest_materialization_event(dg.AssetKey(["archive", "summary"])) is None


def test_a_night_of_which_nothing_could_be_rendered_fails(
    learned_line: Line, instance: dg.DagsterInstance
) -> None:
    learned_line.write("broken_sampler")
    result = run_night(instance)
    assert not result.success
    assert not instance.get_materialized_partitions(dg.AssetKey(["generation", "images"]))
    assert not (learned_line.settings.home / "manifest").exists()
    # What the workflow itself logs is an event of the run.
    events = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any(re.fullmatch("job [0-9a-f]+ failed: .*", message) for message in events)


def test_a_repeated_image_id_is_found(learned_line: Line, instance: dg.DagsterInstance) -> None:
    run_night(instance)
    home = learned_line.settings.home
    copy = home / "manifest" / "dt=2026-02-04" / "part-0.parquet"
    copy.parent.mkdir()
    copy.write_bytes((home / "manifest" / f"dt={DAY}" / "part-0.parquet").read_bytes())
    repeated = repeated_image_ids(learned_line.home)
    assert len(repeated) == 3
    assert all(row["rows"] == 2 for row in repeated)


def test_an_empty_archive_is_counted_as_empty(line: Line) -> None:
    assert query_archive(line.home).per_day == []
    assert repeated_image_ids(line.home) == []


def test_anyone_can_query_the_published_glob(
    learned_line: Line, instance: dg.DagsterInstance
) -> None:
    run_night(instance)
    glob = query_archive(learned_line.home).source
    rows = duckdb.sql(f"select count(*) from read_parquet('{glob}')").fetchall()
    assert rows == [(3,)]


def test_the_nightly_schedule_asks_for_the_partition_of_its_day(
    learned_line: Line, instance: dg.DagsterInstance
) -> None:
    when = datetime(2026, 2, 3, 2, 30, tzinfo=UTC)
    request = schedule_tick(instance, "nightly_generation", when)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == DAY
    assert request.run_key == DAY
    again = schedule_tick(instance, "nightly_generation", when)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key == request.run_key


def test_the_night_is_skipped_while_nothing_is_learned(
    line: Line, instance: dg.DagsterInstance
) -> None:
    skipped = schedule_tick(instance, "nightly_generation", datetime(2026, 2, 3, 2, 30, tzinfo=UTC))
    assert isinstance(skipped, dg.SkipReason)
    assert "nothing has been learned" in (skipped.skip_message or "")


def test_the_refresh_schedule_asks_once_a_night(line: Line, instance: dg.DagsterInstance) -> None:
    when = datetime(2026, 2, 3, 1, 0, tzinfo=UTC)
    request = schedule_tick(instance, "nightly_catalog_refresh", when)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == DAY


def test_the_check_names_the_products_to_photograph_again() -> None:
    rates = (SkuPassRate("00123", 4, 1, 0), SkuPassRate("mug_b", 4, 4, 3))
    report = RenderReport(
        day=date(2026, 2, 3),
        rows=(),
        rendered=8,
        reused=0,
        failed=(),
        seconds=1.0,
        quarantined=("a", "b", "c"),
        pass_rates=rates,
        retake=("00123",),
    )
    result = found_check(report)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "3 pictures held back; take other photos of 00123" in (result.description or "")
    assert result.metadata["quarantined"].value == 3
    table = result.metadata["pass_rates"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [dict(record.data) for record in table.records] == [
        {"sku": "00123", "pictures": 4, "found": 0.25, "found_at_once": 0.0, "retake": True},
        {"sku": "mug_b", "pictures": 4, "found": 1.0, "found_at_once": 0.75, "retake": False},
    ]
    assert found_check(replace(report, retake=())).passed
