"""The jobs that clean up: products that are gone, objects that nothing names."""

from __future__ import annotations

import os
import time

import dagster as dg
import pytest

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops import upkeep
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from catalog_pipeline.workflows.catalog import retire
from tests.defs.scratch_line import Line


def execute(instance: dg.DagsterInstance, job: str, **config: object) -> dg.ExecuteInProcessResult:
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=config or None, raise_on_error=False
    )
    assert isinstance(result, dg.ExecuteInProcessResult)
    return result


def concepts(line: Line) -> set[str]:
    current = line.home.adapters("default").current()
    return {concept.sku for concept in current.concepts} if current else set()


@pytest.fixture
def learned(line: Line, instance: dg.DagsterInstance) -> Line:
    """Three learned products; the folder of the first is gone, and the index knows."""
    line.add_products("mug_a", "mug_b", "mug_c")
    tick_sensor_and_run(instance, defs)
    line.remove_product("mug_a")
    assert execute(instance, "refresh_catalog").success
    assert line.statuses()["mug_a"] == "retired"
    return line


def test_a_vanished_product_is_cleaned_up_before_its_partition_goes(
    learned: Line, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def delete(axis: str, sku: str) -> None:
        seen.append(concepts(learned))
        dg.DagsterInstance.delete_dynamic_partition(instance, axis, sku)

    monkeypatch.setattr(instance, "delete_dynamic_partition", delete)
    assert execute(instance, "catalog_retire").success
    assert seen == [{"mug_b", "mug_c"}]
    assert instance.get_dynamic_partitions("sku") == ["mug_b", "mug_c"]
    newest = instance.get_latest_materialization_event(dg.AssetKey(["learning", "memory"]))
    assert newest is not None
    assert execute(instance, "catalog_retire").success
    assert concepts(learned) == {"mug_b", "mug_c"}


def test_a_product_that_comes_back_is_learned_again(
    learned: Line, instance: dg.DagsterInstance
) -> None:
    execute(instance, "catalog_retire")
    learned.add_product("mug_a")
    (run,) = tick_sensor_and_run(instance, defs)
    assert run.is_success
    assert run.tags["sku"] == "mug_a"
    assert concepts(learned) == {"mug_a", "mug_b", "mug_c"}
    assert set(learned.statuses().values()) == {"learned"}
    assert set(instance.get_dynamic_partitions("sku")) == {"mug_a", "mug_b", "mug_c"}


def test_the_edge_of_a_waiting_run_keeps_its_partition(
    learned: Line, instance: dg.DagsterInstance
) -> None:
    tags = {upkeep.RANGE_START_TAG: "mug_a", upkeep.RANGE_END_TAG: "mug_b"}
    run = instance.create_run_for_job(
        defs.resolve_job_def("learn_new_skus"), status=dg.DagsterRunStatus.NOT_STARTED, tags=tags
    )
    assert execute(instance, "catalog_retire").success
    assert concepts(learned) == {"mug_b", "mug_c"}
    assert "mug_a" in instance.get_dynamic_partitions("sku")
    instance.report_run_canceled(run)
    assert execute(instance, "catalog_retire").success
    assert "mug_a" not in instance.get_dynamic_partitions("sku")


def test_a_product_that_cannot_be_retired_keeps_its_partition_and_fails_the_run(
    learned: Line, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = retire.retire_concepts
    monkeypatch.setattr(
        retire, "retire_concepts", lambda settings: waits(settings, lease_wait_seconds=0.0)
    )
    with learned.home.adapters("default").lease(timeout_seconds=1):
        result = execute(instance, "catalog_retire")
    assert not result.success
    assert "mug_a" in instance.get_dynamic_partitions("sku")
    assert execute(instance, "catalog_retire").success
    assert "mug_a" not in instance.get_dynamic_partitions("sku")


def test_the_clean_up_job_removes_what_is_old_enough(
    learned: Line, instance: dg.DagsterInstance
) -> None:
    store = learned.home.adapters("default")
    orphan = store.write_part(b"of a run that was killed")
    path = learned.settings.home / f"collections/default/parts/{orphan}.safetensors"
    os.utime(path, (time.time() - 80 * 3600,) * 2)
    dry = {"remove_garbage": {"config": {"dry_run": True}}}
    assert execute(instance, "collect_garbage", ops=dry).success
    assert orphan in store.part_names()
    spared = {"remove_garbage": {"config": {"grace_hours": 100.0}}}
    assert execute(instance, "collect_garbage", ops=spared).success
    assert orphan in store.part_names()
    assert execute(instance, "collect_garbage").success
    assert orphan not in store.part_names()
    assert concepts(learned) == {"mug_a", "mug_b", "mug_c"}
