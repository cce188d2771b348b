from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, time
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from catalog_pipeline.definitions import defs
from catalog_pipeline.defs import partitions
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import check_dagster_home

REPOSITORY = Path(__file__).resolve().parents[2]

# One line an asset: key, partitions, upstream keys, pool, run size, group.
ASSETS = """
archive/image_manifest | day | generation/images | - | - | archive
archive/summary | - | archive/image_manifest | - | - | archive
catalog/index | - | - | - | - | catalog
catalog/photo_set | sku | catalog/index | - | 25 | catalog
generation/images | day | generation/plan | generation | - | generation
generation/plan | day | learning/memory | - | - | generation
learning/concept | sku | catalog/photo_set | learning | 25 | learning
learning/memory | - | learning/concept | - | - | learning
"""

CHECKS = """
archive/image_manifest:manifest_rows_match_files blocking
archive/summary:archive_has_unique_image_ids
catalog/index:photo_set_is_usable
generation/images:named_products_are_found
generation/images:night_is_complete
learning/concept:no_forgetting_regression
learning/concept:prior_intact
learning/memory:learned_skus_are_served
learning/memory:memory_head_is_consistent blocking
"""

JOBS = """
catalog_retire:
collect_garbage:
learn_new_skus: learning/concept
nightly_generation: archive/image_manifest archive/summary generation/images generation/plan \
learning/memory
preview_catalog:
preview_learning:
preview_night:
purge_old_runs:
refresh_catalog: catalog/index
remove_concept:
report_memory: learning/memory
rollback:
write_cost_report:
write_night_pages:
"""


def axis(assets: dg.AssetsDefinition) -> str:
    if assets.partitions_def is None:
        return "-"
    if isinstance(assets.partitions_def, dg.DynamicPartitionsDefinition):
        return str(assets.partitions_def.name)
    return "day"


def test_asset_keys_and_specs_are_as_published() -> None:
    lines = []
    for assets in defs.assets or ():
        assert isinstance(assets, dg.AssetsDefinition)
        spec = assets.specs_by_key[assets.key]
        upstream = " ".join(sorted(dep.asset_key.to_user_string() for dep in spec.deps))
        policy = assets.backfill_policy
        size = policy.max_partitions_per_run if policy else None
        cells = [axis(assets), upstream, assets.op.pool, size, spec.group_name]
        lines.append(" | ".join([assets.key.to_user_string(), *(str(c or "-") for c in cells)]))
    assert sorted(lines) == ASSETS.strip().splitlines()


def test_checks_are_claims_and_only_two_of_them_stop_a_night() -> None:
    graph = defs.resolve_asset_graph()
    lines = [
        f"{key.asset_key.to_user_string()}:{key.name}"
        + (" blocking" if graph.get_check_spec(key).blocking else "")
        for key in graph.asset_check_keys
    ]
    assert sorted(lines) == CHECKS.strip().splitlines()


def test_jobs_select_what_their_names_say() -> None:
    lines = []
    for job in defs.get_repository_def().get_all_jobs():
        if not job.name.startswith("__"):
            keys = sorted(key.to_user_string() for key in job.asset_layer.selected_asset_keys)
            lines.append(f"{job.name}: {' '.join(keys)}".strip())
    assert sorted(lines) == JOBS.strip().splitlines()


def test_automation_is_off_until_somebody_turns_it_on() -> None:
    repository = defs.get_repository_def()
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    schedules = {schedule.name: schedule for schedule in repository.schedule_defs}
    assert set(sensors) == {"alerts", "catalog_watch"}
    assert {name: item.cron_schedule for name, item in schedules.items()} == {
        "nightly_catalog_refresh": "0 1 * * *",
        "nightly_catalog_retire": "30 1 * * *",
        "nightly_learning_retry": "45 1 * * *",
        "nightly_generation": "30 2 * * *",
        "weekly_collect_garbage": "0 4 * * 0",
    }
    for sensor in sensors.values():
        assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
        assert len(sensor.description or "") > 40
    for schedule in schedules.values():
        assert len(schedule.description or "") > 40
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
        assert schedule.execution_timezone == "UTC"


def test_every_asset_and_check_says_what_a_row_is() -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        assert len(graph.get(key).description or "") > 80, key
    for check in graph.asset_check_keys:
        assert graph.get_check_spec(check).description, check


def test_definitions_load_without_the_heavy_libraries() -> None:
    code = (
        "import sys; import catalog_pipeline.definitions as d; d.defs.get_repository_def(); "
        "print([m for m in ('torch', 'diffusers', 'transformers', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


NEW_ASSET = """
import dagster as dg

from catalog_pipeline.defs.archive.assets import SUMMARY_KEY


@dg.asset(key=["archive", "colours"], deps=[SUMMARY_KEY])
def colours() -> None:
    \"\"\"The colours of the archive.\"\"\"
"""


def test_a_new_asset_is_one_file(tmp_path: Path) -> None:
    shipped = REPOSITORY / "catalog_pipeline"
    skipped = shutil.ignore_patterns("weights", "centres", "__pycache__")
    shutil.copytree(shipped, tmp_path / "catalog_pipeline", ignore=skipped)
    (tmp_path / "catalog_pipeline/defs/archive/colours.py").write_text(NEW_ASSET, "utf-8")
    code = (
        "from catalog_pipeline.definitions import defs; "
        "keys = defs.resolve_asset_graph().materializable_asset_keys; "
        "print(*sorted(key.to_user_string() for key in keys), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    published = [line.split(" | ")[0] for line in ASSETS.strip().splitlines()]
    assert done.stdout.split() == sorted([*published, "archive/colours"])


def test_definitions_validate_through_the_workspace_file() -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("dagster")),
            "definitions",
            "validate",
            "-w",
            "dagster_home/workspace.yaml",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "catalog_pipeline" in done.stderr + done.stdout


def test_the_workspace_names_the_location_that_dg_uses() -> None:
    workspace = yaml.safe_load((REPOSITORY / "dagster_home" / "workspace.yaml").read_text("utf-8"))
    (entry,) = workspace["load_from"]
    assert entry["python_module"]["location_name"] == "catalog_pipeline"
    assert entry["python_module"]["module_name"] == "catalog_pipeline.definitions"
    pyproject = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    assert 'code_location_name = "catalog_pipeline"' in pyproject


def test_the_shipped_instance_settings_are_accepted(instance: dg.DagsterInstance) -> None:
    assert not instance.telemetry_enabled
    assert instance.run_monitoring_enabled
    assert instance.run_retries_max_retries == 1
    assert not instance.run_retries_retry_on_asset_or_op_failure
    pools = instance.get_concurrency_config().pool_config
    assert pools.default_pool_limit == 1
    assert pools.pool_granularity is not None
    assert pools.pool_granularity.value == "run"


def test_a_wrong_time_zone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(partitions.TIMEZONE_ENV, "Asia/Tokio")
    with pytest.raises(ConfigurationError, match="Asia/Tokio"):
        partitions.schedule_timezone()
    for wrong in ("Asia", "../x", "x" * 5000):
        monkeypatch.setenv(partitions.TIMEZONE_ENV, wrong)
        with pytest.raises(ConfigurationError, match="is not a time zone"):
            partitions.schedule_timezone()
    monkeypatch.setenv(partitions.TIMEZONE_ENV, "Asia/Tokyo")
    assert partitions.schedule_timezone() == "Asia/Tokyo"
    monkeypatch.setenv(partitions.TIMEZONE_ENV, " ")
    assert partitions.schedule_timezone() == "UTC"


def test_a_wrong_first_day_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(partitions.FIRST_DAY_ENV, "yesterday")
    with pytest.raises(ConfigurationError, match="yesterday"):
        partitions.first_day()
    for wrong in ("0001-01-03", "9999-12-31", "2999-01-01", "1.3.2026"):
        monkeypatch.setenv(partitions.FIRST_DAY_ENV, wrong)
        with pytest.raises(ConfigurationError, match=partitions.FIRST_DAY_ENV):
            partitions.first_day()
    monkeypatch.setenv(partitions.FIRST_DAY_ENV, "20260301")
    assert partitions.first_day() == date(2026, 3, 1)


def test_the_first_day_is_the_first_night_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, home = tmp_path / "config", tmp_path / "home"
    config.mkdir()
    monkeypatch.setenv("CATALOG_PIPELINE_CONFIG", str(config))
    monkeypatch.setenv("CATALOG_PIPELINE_HOME", str(home))
    monkeypatch.setenv(partitions.FIRST_DAY_ENV, " ")
    today = datetime.now(UTC).date()

    def put(key: str, day: date) -> None:
        (home / key).parent.mkdir(parents=True)
        (home / key).touch()
        then = datetime.combine(day, time(12), UTC).timestamp()
        os.utime(home / key, (then, then))

    assert partitions.first_day() == today
    assert not home.exists()
    put("collections/a/versions/1.json", date(2026, 2, 5))
    put("collections/b/versions/1.json", date(2026, 2, 7))
    assert partitions.first_day() == date(2026, 2, 5)
    put("plans/dt=2026-03-04/plan.json", today)
    put("manifest/dt=2026-03-02/part-0.parquet", today)
    put("manifest/dt=2026-03-03/part-0.parquet", today)
    put("manifest/dt=yesterday/part-0.parquet", today)
    assert partitions.first_day() == date(2026, 3, 2)
    put("quarantine/dt=2026-03-01/part-0.parquet", today)
    assert partitions.first_day() == date(2026, 3, 1)
    assert not caplog.records
    # The code location loads all the same, and says so.
    (config / "archive.yaml").write_text("keep: 3\n", encoding="utf-8")
    assert partitions.first_day() == today
    assert "the first night of the home is not known" in caplog.text


def test_a_dagster_home_that_is_not_refused_keeps_its_databases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "env=prod [a]*#50% it's"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    check_dagster_home()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("sku", ["mug"])
        assert instance.get_runs() == []
    with dg.DagsterInstance.get() as instance:
        assert instance.get_dynamic_partitions("sku") == ["mug"]
    assert list(tmp_path.iterdir()) == [home]
    assert list(home.rglob("*.db"))


def test_the_postgres_profile_differs_in_its_storage_alone(tmp_path: Path) -> None:
    home = REPOSITORY / "dagster_home"
    profile = (home / "profiles" / "postgres.yaml").read_text("utf-8")
    (tmp_path / "dagster.yaml").write_text(profile, encoding="utf-8")
    settings, _ = dagster_instance_config(str(tmp_path))
    assert settings["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    shipped = yaml.safe_load((home / "dagster.yaml").read_text("utf-8"))
    assert {key: value for key, value in settings.items() if key != "storage"} == shipped


def test_everything_that_runs_is_in_the_operations_manual() -> None:
    manual = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    repository = defs.get_repository_def()
    graph = defs.resolve_asset_graph()
    names = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    names |= {item.name for item in (*repository.sensor_defs, *repository.schedule_defs)}
    names |= {key.to_user_string() for key in graph.materializable_asset_keys}
    names |= {key.name for key in graph.asset_check_keys}
    names |= {partitions.TIMEZONE_ENV, partitions.FIRST_DAY_ENV}
    assert {name for name in names if f"`{name}`" not in manual} == set()
