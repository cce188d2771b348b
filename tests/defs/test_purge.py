from __future__ import annotations

import dagster as dg

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from tests.defs.scratch_line import Line


def purge(instance: dg.DagsterInstance, keep_days: int) -> None:
    result = defs.resolve_job_def("purge_old_runs").execute_in_process(
        instance=instance, run_config={"ops": {"purge": {"config": {"keep_days": keep_days}}}}
    )
    assert result.success


def jobs_kept(instance: dg.DagsterInstance) -> list[str]:
    return sorted(run.job_name for run in instance.get_runs())


def test_only_runs_whose_results_were_replaced_are_deleted(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("mug_a")
    (first,) = tick_sensor_and_run(instance, defs)
    refresh = defs.resolve_job_def("refresh_catalog")
    old = [refresh.execute_in_process(instance=instance).run_id for _ in range(2)]
    purge(instance, keep_days=30)
    assert jobs_kept(instance) == [
        "learn_new_skus",
        "purge_old_runs",
        "refresh_catalog",
        "refresh_catalog",
    ]
    purge(instance, keep_days=0)
    # The first purge and the first refresh are gone; what is the newest of its kind stays.
    assert jobs_kept(instance) == ["learn_new_skus", "purge_old_runs", "refresh_catalog"]
    assert instance.has_run(first.run_id)
    assert instance.has_run(old[1])
    concept = dg.AssetKey(["learning", "concept"])
    assert set(instance.get_materialized_partitions(concept)) == {"mug_a"}
