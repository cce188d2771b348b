"""The dry runs, and what a person finds of a product that cannot be learned."""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.generation.assets import planned_when
from catalog_pipeline.defs.generation.images import NightConfig, home_of_run
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from catalog_pipeline.records import NightPlan
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from tests.defs.scratch_line import Line
from tests.defs.test_sensor import evaluate


def run(
    instance: dg.DagsterInstance, job: str, op: str, **config: object
) -> dg.ExecuteInProcessResult:
    run_config = {"ops": {op: {"config": config}}} if config else None
    return defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=run_config, raise_on_error=False
    )


def log_of(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(entry.user_message for entry in instance.all_logs(result.run_id))


def test_a_dry_listing_writes_nothing(line: Line, instance: dg.DagsterInstance) -> None:
    line.add_product("mug_a")
    result = run(instance, "preview_catalog", "preview_listing")
    assert result.success
    assert "would add: mug_a" in log_of(instance, result)
    assert line.home.index.read() == []
    assert instance.get_dynamic_partitions("sku") == []


def test_a_dry_learning_says_what_would_be_learned(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("mug_a")
    line.add_product("broken")
    for photo in (line.settings.catalog_root / "broken").iterdir():
        photo.write_bytes(photo.read_bytes()[:64])
        line.age(photo)
    refresh_index(line.home)
    result = run(instance, "preview_learning", "preview_concepts", steps=7)
    assert result.success
    said = log_of(instance, result)
    assert "mug_a: would learn: for the first time, 7 steps; 4 photos used, 0 left out" in said
    assert "broken: would fail: broken: 0 usable photos" in said
    assert line.statuses() == {"mug_a": "new", "broken": "new"}
    assert line.home.collections() == []


def test_a_dry_night_writes_nothing(line: Line, instance: dg.DagsterInstance) -> None:
    line.add_products("mug_a", "mug_b")
    tick_sensor_and_run(instance, defs)
    result = run(instance, "preview_night", "preview_plan", day="2026-02-03")
    assert result.success
    assert "2026-02-03 would be planned: 3 pictures, 0 there already" in log_of(instance, result)
    assert line.home.objects.list("plans") == []
    wrong = run(instance, "preview_night", "preview_plan", day="yesterday")
    assert not wrong.success
    (entry,) = instance.all_logs(wrong.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert "yesterday" in str(entry.dagster_event)


def test_a_product_with_too_few_photos_is_named_with_what_to_do(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("few", photos=1)
    tick = evaluate(instance)
    index, check = tick.asset_events
    assert isinstance(index, dg.AssetMaterialization)
    assert isinstance(check, dg.AssetCheckEvaluation)
    products = index.metadata["products"]
    assert isinstance(products, dg.TableMetadataValue)
    (row,) = products.records
    assert (row.data["sku"], row.data["status"]) == ("few", "failed")
    assert row.data["what to do"] == "put 2 more photos into the folder few"
    assert (check.check_name, check.passed) == ("photo_set_is_usable", False)
    assert "1 wait for a person: few (1 usable photos of 1 listed" in (tick.skip_message or "")
    line.add_product("few", photos=4)
    _, mended = evaluate(instance, cursor=tick.cursor).asset_events
    assert isinstance(mended, dg.AssetCheckEvaluation)
    assert mended.passed


def test_a_night_takes_its_attempts_from_the_form(line: Line) -> None:
    shipped = line.home
    assert home_of_run(shipped, NightConfig()) is shipped
    changed = home_of_run(shipped, NightConfig(attempts=7)).settings.generation
    assert changed.quality.attempts == 7
    assert shipped.settings.generation.quality.attempts == 3
    assert changed.steps == shipped.settings.generation.steps


def test_a_past_day_says_which_versions_it_is_planned_with() -> None:
    day = date(2026, 2, 3)
    night = NightPlan(day, "hash", ())
    assert "the night's own day was 2026-02-03" in planned_when(
        night, day + timedelta(days=9), unchanged=False
    )
    assert planned_when(night, day, unchanged=False) == (
        "planned with the versions served now (none)"
    )
    assert "stays as it was made" in planned_when(night, day + timedelta(days=9), unchanged=True)
