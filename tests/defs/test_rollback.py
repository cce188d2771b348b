"""The job ``rollback``, and what the UI says of products that fall out."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from tests.defs.scratch_line import Line

CONCEPT = dg.AssetKey(["learning", "concept"])


def run_rollback(instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("rollback").execute_in_process(
        instance=instance,
        run_config={"ops": {"serve_version": {"config": config}}},
        raise_on_error=False,
    )


@pytest.fixture
def versions(line: Line, instance: dg.DagsterInstance) -> list[str]:
    line.add_products("mug_a", "mug_b")
    tick_sensor_and_run(instance, defs)
    return [version.version for version in line.home.adapters("default").history()]


def newest_observation(instance: dg.DagsterInstance, sku: str) -> dg.AssetObservation | None:
    found = instance.fetch_observations(
        dg.AssetRecordsFilter(CONCEPT, asset_partitions=[sku]), limit=1
    ).records
    return found[0].event_log_entry.asset_observation if found else None


def checks(instance: dg.DagsterInstance, run_id: str) -> dict[str, bool]:
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [entry.dagster_event.asset_check_evaluation_data for entry in entries]  # type: ignore[union-attr]
    return {check.check_name: check.passed for check in found}


def test_a_rollback_tells_the_truth_everywhere(
    line: Line, instance: dg.DagsterInstance, versions: list[str]
) -> None:
    first, second = versions
    planned = run_rollback(instance, version=first[:8], dry_run=True)
    assert planned.success
    head = line.home.adapters("default").current()
    assert head is not None
    assert head.version == second
    assert newest_observation(instance, "mug_b") is None

    done = run_rollback(instance, version=first[:8])
    assert done.success
    assert line.statuses() == {"mug_a": "learned", "mug_b": "failed"}
    said = newest_observation(instance, "mug_b")
    assert said is not None
    assert said.metadata["status"].value == "learned, not served"
    assert "which does not know it" in str(said.metadata["reason"].value)
    assert checks(instance, done.run_id) == {
        "photo_set_is_usable": False,
        "learned_skus_are_served": False,
        "no_forgetting_regression": True,
        "prior_intact": True,
    }
    memory = instance.get_latest_materialization_event(dg.AssetKey(["learning", "memory"]))
    assert memory is not None
    assert memory.asset_materialization is not None
    assert memory.asset_materialization.metadata["dagster/row_count"].value == 1

    forward = run_rollback(instance, version=second)
    assert forward.success
    assert line.statuses() == {"mug_a": "learned", "mug_b": "learned"}
    said = newest_observation(instance, "mug_b")
    assert said is not None
    assert said.metadata["status"].value == "served again"
    assert all(checks(instance, forward.run_id).values())


def test_a_wrong_version_is_one_line(instance: dg.DagsterInstance, versions: list[str]) -> None:
    result = run_rollback(instance, version="0123abc")
    assert not result.success
    (entry,) = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert entry.dagster_event is not None
    failure = entry.dagster_event.step_failure_data
    assert failure.error is not None
    assert failure.error.message.startswith(
        "dagster._core.definitions.events.Failure: no version '0123abc' in default"
    )
    assert failure.error.cause is None
    assert failure.user_failure_data is not None
    assert failure.user_failure_data.metadata["kind"].value == "ObjectNotFoundError"
