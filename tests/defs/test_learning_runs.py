from __future__ import annotations

import json
import shutil
from collections import Counter
from io import BufferedReader
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from catalog_pipeline.catalog import local, photo_set
from catalog_pipeline.catalog.decoding import DecodedPhoto
from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from catalog_pipeline.settings import CatalogSettings, Settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.versions import rollback
from tests.defs.scratch_line import Line

CONCEPT = dg.AssetKey(["learning", "concept"])
PHOTO_SET = dg.AssetKey(["catalog", "photo_set"])


def learned(instance: dg.DagsterInstance, key: dg.AssetKey = CONCEPT) -> set[str]:
    """The partitions that Dagster shows as materialized."""
    return set(instance.get_materialized_partitions(key))


def newest_metadata(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None
) -> dict[str, Any]:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition]),
        limit=1,
    ).records
    materialization = records[0].asset_materialization
    assert materialization is not None
    return {name: value.value for name, value in materialization.metadata.items()}


def failure_text(instance: dg.DagsterInstance, run_id: str) -> str:
    (entry,) = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert entry.dagster_event is not None
    data = entry.dagster_event.step_failure_data
    assert data.user_failure_data is not None
    return str(data.user_failure_data.description)


def test_each_sku_of_a_run_has_its_own_status(line: Line, instance: dg.DagsterInstance) -> None:
    line.add_products("mug_a", "mug_b", "mug_c", "mug_d")
    line.write("refused_skus.txt", "mug_b")
    for photo in (line.settings.catalog_root / "mug_c").iterdir():
        photo.write_bytes(photo.read_bytes()[:64])
        line.age(photo)
    (run,) = tick_sensor_and_run(instance, defs)
    assert not run.is_success
    assert learned(instance) == {"mug_a", "mug_d"}
    assert learned(instance, PHOTO_SET) == {"mug_a", "mug_b", "mug_d"}
    text = failure_text(instance, run.run_id)
    assert text.startswith("2 of 4 SKUs were not learned")
    assert "mug_b: mug_b looks like nothing at all" in text
    assert "mug_c: " in text
    assert line.statuses()["mug_b"] == line.statuses()["mug_c"] == "failed"
    # The same photos would fail again, so nobody asks for them.
    assert tick_sensor_and_run(instance, defs) == []
    line.write("refused_skus.txt", "")
    line.add_product("mug_b", seed=5)
    (again,) = tick_sensor_and_run(instance, defs)
    assert again.is_success
    assert learned(instance) == {"mug_a", "mug_b", "mug_d"}


def test_a_materialization_shows_pictures_curves_and_numbers(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("mug_a", name="Red mug", class_noun="mug")
    tick_sensor_and_run(instance, defs)
    metadata = newest_metadata(instance, CONCEPT, "mug_a")
    assert metadata["status"] == "learned"
    assert metadata["metric/fidelity"] == 0.5
    for name in ("photos_above_samples_below", "loss_curve"):
        assert metadata[name].startswith("![")
        assert "data:image/png;base64," in metadata[name]
        assert len(metadata[name]) < 100_000
    photos = newest_metadata(instance, PHOTO_SET, "mug_a")
    assert photos["dagster/row_count"] == 4
    assert photos["name"] == "Red mug"
    assert "data:image/png;base64," in photos["photos"]


def test_unchanged_photos_are_recorded_without_work(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("mug_a")
    tick_sensor_and_run(instance, defs)
    result = defs.resolve_job_def("learn_new_skus").execute_in_process(
        instance=instance, partition_key="mug_a"
    )
    assert result.success
    assert newest_metadata(instance, CONCEPT, "mug_a")["status"] == "unchanged"


def test_photo_sets_can_be_looked_at_alone(line: Line, instance: dg.DagsterInstance) -> None:
    for sku, photos in {"mug_a": 4, "mug_b": 2}.items():
        line.add_product(sku, photos=photos)
    instance.add_dynamic_partitions("sku", ["mug_a", "mug_b"])
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[PHOTO_SET],
        tags={
            "dagster/asset_partition_range_start": "mug_a",
            "dagster/asset_partition_range_end": "mug_b",
        },
        raise_on_error=False,
    )
    assert not result.success
    assert learned(instance, PHOTO_SET) == {"mug_a"}
    assert "mug_b" in failure_text(instance, result.run_id)


def test_photo_sets_and_concepts_of_a_range_fit_in_one_run(
    line: Line, instance: dg.DagsterInstance
) -> None:
    for sku, photos in {"mug_a": 4, "mug_b": 5}.items():
        line.add_product(sku, photos=photos)
    assert defs.resolve_job_def("refresh_catalog").execute_in_process(instance=instance).success
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[PHOTO_SET, CONCEPT],
        tags={
            "dagster/asset_partition_range_start": "mug_a",
            "dagster/asset_partition_range_end": "mug_b",
        },
    )
    assert result.success
    assert learned(instance) == learned(instance, PHOTO_SET) == {"mug_a", "mug_b"}
    assert newest_metadata(instance, PHOTO_SET, "mug_a")["dagster/row_count"] == 4
    assert newest_metadata(instance, PHOTO_SET, "mug_b")["dagster/row_count"] == 5


def test_the_index_names_what_cannot_be_used(line: Line, instance: dg.DagsterInstance) -> None:
    line.add_product("mug_a")
    line.add_product("mug_b", photos=2)
    notes = line.settings.catalog_root / "mug_a" / "notes.jpg"
    notes.write_text("no picture")
    for path in (notes, notes.parent):
        line.age(path)
    result = defs.resolve_job_def("refresh_catalog").execute_in_process(instance=instance)
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert "mug_b" in str(check.metadata["unusable"].value)
    assert instance.get_dynamic_partitions("sku") == ["mug_a"]
    metadata = newest_metadata(instance, dg.AssetKey(["catalog", "index"]))
    assert metadata["dagster/row_count"] == 2
    assert metadata["status/new"] + metadata.get("status/failed", 0) == 2


def test_the_index_warns_of_the_same_photos_under_two_skus(
    line: Line, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "RACY_SECONDS", -60)
    line.add_product("mug_a")
    products = line.settings.catalog_root
    line.age(shutil.copytree(products / "mug_a", products / "mug_copy"))
    result = defs.resolve_job_def("refresh_catalog").execute_in_process(instance=instance)
    assert result.success
    metadata = newest_metadata(instance, dg.AssetKey(["catalog", "index"]))
    (warning,) = metadata["warnings"].records
    assert "mug_a and mug_copy have 4 photos in common" in warning.data["warning"]
    logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("mug_a and mug_copy" in message for message in logged)


def memory_checks(instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckEvaluation]:
    result = defs.resolve_job_def("report_memory").execute_in_process(
        instance=instance, raise_on_error=False
    )
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def report_memory(instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    return memory_checks(instance)["memory_head_is_consistent"]


def test_the_memory_follows_a_rollback(line: Line, instance: dg.DagsterInstance) -> None:
    line.add_product("mug_a")
    tick_sensor_and_run(instance, defs)
    adapters = line.home.adapters("default")
    first = adapters.current()
    line.add_product("mug_b")
    tick_sensor_and_run(instance, defs)
    assert first is not None
    assert report_memory(instance).passed
    memory = dg.AssetKey(["learning", "memory"])
    assert newest_metadata(instance, memory)["dagster/row_count"] == 2
    rollback(line.home, first.version, "default")
    assert report_memory(instance).passed
    assert newest_metadata(instance, memory)["dagster/row_count"] == 1


def test_a_broken_head_is_named(line: Line, instance: dg.DagsterInstance) -> None:
    line.add_product("mug_a")
    tick_sensor_and_run(instance, defs)
    current = line.home.adapters("default").current()
    assert current is not None
    digest = current.parts["concept/mug_a"]
    part = line.settings.home / "collections" / "default" / "parts" / f"{digest}.safetensors"
    part.write_bytes(b"rotten")
    check = report_memory(instance)
    assert not check.passed
    assert digest[:12] in (check.description or "")
    part.unlink()
    assert "is not stored" in (report_memory(instance).description or "")


def test_nothing_learned_is_a_clear_failure(line: Line, instance: dg.DagsterInstance) -> None:
    result = defs.resolve_job_def("report_memory").execute_in_process(
        instance=instance, raise_on_error=False
    )
    assert not result.success
    assert "at least one learned SKU" in failure_text(instance, result.run_id)


def test_a_refused_candidate_is_shown(line: Line, instance: dg.DagsterInstance) -> None:
    line.add_product("mug_a")
    line.write("refused_skus.txt", "mug_a")
    line.write("figures.json", json.dumps({"mug_a": {"forgetting": 0.2}}))
    (run,) = tick_sensor_and_run(instance, defs)
    assert not run.is_success
    (entry,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert entry.dagster_event is not None
    failure = entry.dagster_event.step_failure_data.user_failure_data
    assert failure is not None
    (observed,) = instance.fetch_observations(
        dg.AssetRecordsFilter(CONCEPT, asset_partitions=["mug_a"]), limit=2
    ).records
    observation = observed.asset_observation
    assert observation is not None
    assert "mug_a looks like nothing at all" in str(observation.description)
    assert "To do: " in str(observation.description)
    assert observation.metadata["folder"].value == str(line.settings.catalog_root / "mug_a")
    refused = failure.metadata["failed"]
    assert isinstance(refused, dg.TableMetadataValue)
    (told,) = refused.records
    assert set(told.data) == {"sku", "reason", "what to do", "photos", "pictures"}
    assert observation.metadata["metric/forgetting"].value == 0.2
    pictures = (
        failure.metadata["pictures/mug_a"].value,
        observation.metadata["before_above_after_below"].value,
    )
    for picture in pictures:
        assert str(picture).startswith("![mug_a](data:image/png;base64,")
        assert len(str(picture)) < 100_000
    assert learned(instance) == set()


def test_the_retention_checks_follow_what_is_served(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_product("mug_a")
    assert tick_sensor_and_run(instance, defs)[0].is_success
    first = line.home.adapters("default").current()
    assert first is not None
    line.add_product("mug_b")
    line.write("figures.json", json.dumps({"mug_b": {"forgetting": 0.2, "prior_drift": 0.6}}))
    (run,) = tick_sensor_and_run(instance, defs)
    # The run succeeds: its gate let the candidate pass, and a check that fails stops nothing.
    assert run.is_success
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [entry.dagster_event.asset_check_evaluation_data for entry in entries]  # type: ignore[union-attr]
    assert {check.check_name: check.passed for check in found} == {
        "photo_set_is_usable": True,
        "learned_skus_are_served": True,
        "no_forgetting_regression": False,
        "prior_intact": False,
    }
    checks = memory_checks(instance)
    forgetting = checks["no_forgetting_regression"]
    assert not forgetting.passed
    assert forgetting.severity is dg.AssetCheckSeverity.ERROR
    assert "largest forgetting of 2 concepts: 0.200, expected at most 0.05" in str(
        forgetting.description
    )
    assert forgetting.metadata["largest"].value == 0.2
    table = forgetting.metadata["past_the_tolerance"].value
    assert "mug_b" in str(table)
    assert "mug_a" not in str(table)
    assert not checks["prior_intact"].passed
    rollback(line.home, first.version, "default")
    checks = memory_checks(instance)
    assert checks["no_forgetting_regression"].passed
    assert checks["prior_intact"].passed
    served = checks["learned_skus_are_served"]
    assert not served.passed
    assert "mug_b" in str(served.metadata["not served"].value)


def test_a_learning_run_opens_one_home_and_reads_each_photo_once(
    line: Line, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.add_product("mug")
    refresh_index(line.home)
    instance.add_dynamic_partitions("sku", ["mug"])
    homes: list[Home] = []
    read: Counter[str] = Counter()
    decoded: list[int] = []
    true_init, true_open, true_decode = Home.__init__, local._open_regular, photo_set.decode_photo

    def init(home: Home, settings: Settings, *, run: str = "") -> None:
        homes.append(home)
        true_init(home, settings, run=run)

    def opened(path: Path) -> BufferedReader:
        read[path.name] += 1
        return true_open(path)

    def decode(data: bytes, settings: CatalogSettings) -> DecodedPhoto:
        decoded.append(len(data))
        return true_decode(data, settings)

    monkeypatch.setattr(Home, "__init__", init)
    monkeypatch.setattr(local, "_open_regular", opened)
    monkeypatch.setattr(photo_set, "decode_photo", decode)
    result = defs.resolve_job_def("learn_new_skus").execute_in_process(
        instance=instance, partition_key="mug"
    )
    assert result.success
    assert len(homes) == 1
    assert read == {f"{n}.png": 1 for n in range(4)}
    assert len(decoded) == 4
