"""The job ``remove_concept``: products are destroyed, and what Dagster has recorded of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from catalog_pipeline.workflows.upkeep.audit_entries import matching_entries
from catalog_pipeline.workflows.upkeep.remove_concept import remove_concepts
from tests.defs.scratch_line import Line

CONCEPT = dg.AssetKey(["learning", "concept"])
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def logging_instance(empty_dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """With output on a disk, where pictures lie beside it."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dagster_home_", dir=where) as name:
        folder = Path(name) / "dagster_home"
        shutil.copytree(empty_dagster_home, folder)
        shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", folder)
        with dg.DagsterInstance.from_config(str(folder)) as opened:
            yield opened


def execute(instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("remove_concept").execute_in_process(
        instance=instance,
        run_config={"ops": {"remove_products": {"config": config}}},
        raise_on_error=False,
    )


def numbers(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = [e for e in result.all_events if e.is_successful_output]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def pictures(instance: dg.DagsterInstance) -> int:
    return len(list(Path(instance.storage_directory()).rglob("pictures/*.png")))


def runs_with(instance: dg.DagsterInstance, sku: str) -> set[str]:
    wanted = dg.AssetRecordsFilter(CONCEPT, asset_partitions=[sku])
    return {record.run_id for record in instance.fetch_materializations(wanted, limit=9).records}


@pytest.fixture
def learned(line: Line, instance: dg.DagsterInstance) -> Line:
    """A learned product whose folder is gone."""
    line.add_product("mug_a", seed=1)
    tick_sensor_and_run(instance, defs)
    line.remove_product("mug_a")
    return line


def test_partitions_runs_and_pictures_of_a_removed_product_go(
    line: Line, logging_instance: dg.DagsterInstance
) -> None:
    """One was learned alone, then two in one run; the folders of the first two are gone."""
    learned, instance = line, logging_instance
    line.add_product("mug_a", seed=1)
    tick_sensor_and_run(instance, defs)
    line.add_products("mug_b", "mug_c")
    tick_sensor_and_run(instance, defs)
    line.remove_product("mug_a")
    line.remove_product("mug_b")
    (alone,), (together,) = runs_with(instance, "mug_a"), runs_with(instance, "mug_b")
    shown = pictures(instance)
    planned = execute(instance, skus=["mug_a", "mug_b"])
    assert planned.success
    assert numbers(planned) == {"dry_run": True}
    assert learned.statuses() == dict.fromkeys(("mug_a", "mug_b", "mug_c"), "learned")

    result = execute(instance, skus=["mug_a", "mug_b"], dry_run=False)
    assert result.success
    assert learned.statuses() == {"mug_c": "learned"}
    assert instance.get_dynamic_partitions("sku") == ["mug_c"]
    assert instance.get_run_by_id(alone) is None
    assert runs_with(instance, "mug_a") == set()
    # The run that holds the newest event of mug_c is kept, without the pictures of mug_b.
    assert instance.get_run_by_id(together) is not None
    assert runs_with(instance, "mug_c") == {together}
    told = numbers(result)
    assert (told["removed"], told["runs_deleted"], told["partitions_deleted"]) == (2, 1, 2)
    assert told["pictures_deleted"] >= 1
    assert pictures(instance) < shown
    kept = told["runs_that_keep_a_trace"].records
    assert [record.data["run"] for record in kept] == [together]
    newest = instance.get_latest_materialization_event(dg.AssetKey(["catalog", "index"]))
    assert newest is not None
    assert "mug_a" not in str(newest.asset_materialization)


def test_the_audit_log_names_the_run(learned: Line, instance: dg.DagsterInstance) -> None:
    result = execute(instance, skus=["mug_a"], dry_run=False)
    (stone,) = matching_entries(learned.home, sku="mug_a", action="remove")
    assert stone.signed.run == result.run_id


def test_what_the_command_line_removed_is_forgotten_here_too(
    learned: Line, instance: dg.DagsterInstance
) -> None:
    (outcome,) = remove_concepts(learned.home, ["mug_a"])
    assert outcome.reason == ""
    assert execute(instance, skus=["mug_a"], dry_run=False).success
    assert instance.get_dynamic_partitions("sku") == []
    assert len(matching_entries(learned.home, sku="mug_a", action="remove")) == 1


def test_a_product_that_nobody_knows_is_refused(
    learned: Line, instance: dg.DagsterInstance
) -> None:
    result = execute(instance, skus=["nobody"], dry_run=False)
    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert "nothing of nobody is stored" in str(failure.step_failure_data)
    assert learned.statuses()["mug_a"] == "learned"
