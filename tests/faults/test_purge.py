"""``purge_old_runs`` gives the disk back, on an instance that captures what steps print."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg

from catalog_pipeline.definitions import defs

REPOSITORY = Path(__file__).resolve().parents[2]


@dg.op
def says_much() -> None:
    print("a line of a log\n" * 10_000)


@dg.job
def talkative() -> None:
    says_much()


def test_a_purged_run_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        old = [talkative.execute_in_process(instance=instance).run_id for _ in range(2)]
        assert all(files_named_after(tmp_path, run_id) for run_id in old)
        result = defs.resolve_job_def("purge_old_runs").execute_in_process(
            instance=instance, run_config={"ops": {"purge": {"config": {"keep_days": 0}}}}
        )
        assert result.success
        assert [run.run_id for run in instance.get_runs()] == [result.run_id]
        assert [files_named_after(tmp_path, run_id) for run_id in old] == [[], []]
        assert files_named_after(tmp_path, result.run_id)


def files_named_after(folder: Path, run_id: str) -> list[Path]:
    return [path for path in folder.rglob("*") if run_id in path.name]
