from __future__ import annotations

import shutil
from collections.abc import Callable

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.test_utils import create_run_for_test

from catalog_pipeline.catalog.index import mark_learned
from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from tests.defs.scratch_line import Line


def evaluate(instance: dg.DagsterInstance, cursor: str | None = None) -> SensorExecutionData:
    repository = defs.get_repository_def()
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
        sensor_name="catalog_watch",
    ) as context:
        return repository.get_sensor_def("catalog_watch").evaluate_tick(context)


def run_keys(tick: SensorExecutionData) -> list[str]:
    return [str(request.run_key) for request in tick.run_requests or ()]


def test_two_ticks_in_a_row_give_the_same_run_keys(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_products("mug_a", "mug_b", "00123")
    first = evaluate(instance)
    second = evaluate(instance)
    following = evaluate(instance, cursor=second.cursor)
    assert len(run_keys(first)) == 1
    assert run_keys(first) == run_keys(second) == run_keys(following)
    (request,) = first.run_requests or ()
    assert request.tags["sku"] == "00123,mug_a,mug_b"
    assert request.tags["dagster/asset_partition_range_start"] == "00123"
    assert request.tags["dagster/asset_partition_range_end"] == "mug_b"
    (added,) = first.dynamic_partitions_requests or ()
    assert list(added.partition_keys) == ["00123", "mug_a", "mug_b"]


def test_a_product_dropped_later_is_the_only_one_that_is_learned(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_products("mug_a", "mug_b")
    (first,) = tick_sensor_and_run(instance, defs)
    assert first.is_success
    assert tick_sensor_and_run(instance, defs) == []
    line.add_product("zebra")
    (second,) = tick_sensor_and_run(instance, defs)
    assert second.is_success
    assert second.tags["sku"] == "zebra"
    assert line.statuses() == dict.fromkeys(("mug_a", "mug_b", "zebra"), "learned")
    assert instance.get_dynamic_partitions("sku") == ["mug_a", "mug_b", "zebra"]
    assert tick_sensor_and_run(instance, defs) == []


def test_changed_photos_are_learned_again(line: Line, instance: dg.DagsterInstance) -> None:
    line.add_products("mug_a", "mug_b")
    tick_sensor_and_run(instance, defs)
    line.add_product("mug_a", seed=7)
    (run,) = tick_sensor_and_run(instance, defs)
    assert run.tags["sku"] == "mug_a"
    assert line.statuses() == {"mug_a": "learned", "mug_b": "learned"}


def test_photos_and_cards_that_return_are_learned_each_time(
    line: Line, instance: dg.DagsterInstance
) -> None:
    keys = []
    for turn in range(7):
        line.add_product("jar", name="Jar, now half the price" if turn % 2 else "Jar")
        line.add_product("mug", seed=1 + turn % 2)
        (run,) = tick_sensor_and_run(instance, defs)
        assert run.is_success
        assert line.statuses() == {"jar": "learned", "mug": "learned"}
        keys.append(run.tags["dagster/run_key"])
    assert len(set(keys)) == 7
    assert tick_sensor_and_run(instance, defs) == []


def test_a_product_that_leaves_and_returns_is_learned_each_time(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("vase")
    for _ in range(4):
        line.add_product("mug")
        (run,) = tick_sensor_and_run(instance, defs)
        assert run.is_success
        assert line.statuses() == {"mug": "learned", "vase": "learned"}
        line.remove_product("mug")
        assert tick_sensor_and_run(instance, defs) == []
        result = defs.resolve_job_def("catalog_retire").execute_in_process(instance=instance)
        assert result.success
        assert instance.get_dynamic_partitions("sku") == ["vase"]


def test_a_lost_cursor_asks_for_nothing_that_is_under_way(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_products("mug_a", "mug_b")
    tick = evaluate(instance)
    (request,) = tick.run_requests or ()
    (added,) = tick.dynamic_partitions_requests or ()
    instance.add_dynamic_partitions("sku", list(added.partition_keys))
    tags = {**request.tags, "dagster/run_key": str(request.run_key)}
    running = create_run_for_test(
        instance, job_name="learn_new_skus", status=dg.DagsterRunStatus.STARTED, tags=tags
    )
    row = next(row for row in line.home.index.read() if row.sku == "mug_a")
    line.home.index.update(lambda rows: mark_learned(rows, "mug_a", row.content_hash))
    forgetful = evaluate(instance)
    assert run_keys(forgetful) == []
    assert run_keys(evaluate(instance, cursor=tick.cursor)) == [request.run_key]
    instance.report_run_failed(running)
    assert [key.split(":")[0] for key in run_keys(evaluate(instance))] == ["mug_b"]


def test_a_set_still_being_copied_waits(line: Line, instance: dg.DagsterInstance) -> None:
    line.add_product("mug_a")
    fresh = line.settings.catalog_root / "mug_a" / "0.png"
    line.age(fresh, seconds=0)
    tick = evaluate(instance)
    assert run_keys(tick) == []
    assert not tick.dynamic_partitions_requests
    assert tick.skip_message
    line.age(fresh)
    assert len(run_keys(evaluate(instance, cursor=tick.cursor))) == 1


def test_an_empty_or_missing_folder_skips_and_retires_nothing(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_products("mug_a", "mug_b")
    tick_sensor_and_run(instance, defs)
    cursor = evaluate(instance).cursor
    for sku in ("mug_a", "mug_b"):
        line.remove_product(sku)
    empty = evaluate(instance, cursor=cursor)
    shutil.rmtree(line.settings.catalog_root)
    missing = evaluate(instance, cursor=cursor)
    for tick in (empty, missing):
        assert run_keys(tick) == []
        assert "root" in (tick.skip_message or "")
        assert tick.cursor == cursor
    assert line.statuses() == {"mug_a": "learned", "mug_b": "learned"}


def test_a_tick_asks_for_at_most_so_many_runs(
    make_line: Callable[..., Line], instance: dg.DagsterInstance
) -> None:
    line = make_line(catalog={"max_requests_per_tick": 2})
    line.add_products("a", "c", "e")
    # The gaps, known before, keep the three apart.
    instance.add_dynamic_partitions("sku", ["a", "b", "c", "d", "e"])
    assert [key.split(":")[0] for key in run_keys(evaluate(instance))] == ["a", "c"]


def test_a_large_catalog_is_diffed_as_it_was_last_indexed(
    make_line: Callable[..., Line], instance: dg.DagsterInstance
) -> None:
    line = make_line(catalog={"sensor_lists_up_to_skus": 1})
    line.add_products("a", "b")
    assert len(run_keys(evaluate(instance))) == 1
    line.add_product("c")
    tick = evaluate(instance)
    assert [request.tags["sku"] for request in tick.run_requests or ()] == ["a,b"]
    result = defs.resolve_job_def("refresh_catalog").execute_in_process(instance=instance)
    assert result.success
    tick = evaluate(instance, cursor=tick.cursor)
    assert [request.tags["sku"] for request in tick.run_requests or ()] == ["a,b", "c"]


def test_a_changed_index_is_recorded_by_the_tick_that_saw_it(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("mug_a")
    tick = evaluate(instance)
    event, check = tick.asset_events
    assert isinstance(event, dg.AssetMaterialization)
    assert isinstance(check, dg.AssetCheckEvaluation)
    assert event.asset_key == check.asset_key == dg.AssetKey(["catalog", "index"])
    assert (check.check_name, check.passed) == ("photo_set_is_usable", True)
    assert event.metadata["added"].value == 1
    assert evaluate(instance).asset_events == []


def test_a_run_that_died_is_asked_again_for_what_it_left(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_products("mug_a", "mug_b", "mug_c")
    line.write("dies_at.txt", "mug_b")
    (died,) = tick_sensor_and_run(instance, defs)
    assert not died.is_success
    assert line.statuses() == {"mug_a": "learned", "mug_b": "new", "mug_c": "new"}
    (second,) = tick_sensor_and_run(instance, defs)
    assert second.is_success
    assert second.tags["sku"] == "mug_b,mug_c"
    assert second.tags["dagster/run_key"].endswith(":2")
