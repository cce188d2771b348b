"""``dagster_home/profiles/postgres.yaml`` on a real PostgreSQL server."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from tests.defs.conftest import NO_CAPTURE
from tests.defs.scratch_line import Line
from tests.faults.postgres_server import find_programs, running_postgres

REPOSITORY = Path(__file__).resolve().parents[2]
CONCEPT = dg.AssetKey(["learning", "concept"])


@pytest.fixture
def postgres_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A ``DAGSTER_HOME`` with the profile, and the server that its variable points at."""
    for module in ("dagster_postgres", "psycopg2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no {module}; install the extra: pip install -e '.[postgres]'")
    programs = find_programs()
    if programs is None:
        pytest.skip("no initdb; install PostgreSQL (apt-get install postgresql)")
    home = tmp_path / "dagster_home"
    home.mkdir()
    shutil.copy(REPOSITORY / "dagster_home" / "profiles" / "postgres.yaml", home / "dagster.yaml")
    with (home / "dagster.yaml").open("a", encoding="utf-8") as file:
        file.write(NO_CAPTURE)
    with running_postgres(programs) as url:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
        yield home


def test_the_line_runs_on_postgres(postgres_home: Path, line: Line) -> None:
    with (
        dg.DagsterInstance.from_config(str(postgres_home)) as instance,
        dg.DagsterInstance.from_config(str(postgres_home)) as beside,
    ):
        storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
        assert [type(storage).__name__ for storage in storages] == [
            "PostgresRunStorage",
            "PostgresEventLogStorage",
            "PostgresScheduleStorage",
        ]
        assert not list(postgres_home.rglob("*.db"))
        line.add_product("mug_a")
        (run,) = tick_sensor_and_run(instance, defs)
        assert run.is_success
        # Another process on the same database sees the run, its events and its partition.
        assert [seen.run_id for seen in beside.get_runs()] == [run.run_id]
        assert beside.get_dynamic_partitions("sku") == ["mug_a"]
        assert set(beside.get_materialized_partitions(CONCEPT)) == {"mug_a"}
        refresh = defs.resolve_job_def("refresh_catalog")
        for _ in range(2):
            assert refresh.execute_in_process(instance=instance).success
        purge = {"ops": {"purge": {"config": {"keep_days": 0}}}}
        job = defs.resolve_job_def("purge_old_runs")
        assert job.execute_in_process(instance=beside, run_config=purge).success
        kept = [seen.job_name for seen in instance.get_runs()]
        assert sorted(kept) == ["learn_new_skus", "purge_old_runs", "refresh_catalog"]
