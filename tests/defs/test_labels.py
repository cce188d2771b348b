"""No asset, check, job, schedule, sensor or form may come without what the UI needs to say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from catalog_pipeline import __version__
from catalog_pipeline.definitions import defs
from catalog_pipeline.defs import labels
from catalog_pipeline.defs.failures import MARK
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.stores.columns import INDEX_SCHEMA, MANIFEST_SCHEMA

WORDS = ("**Grain:**", "**Partition:**", "**Read by:**")


def test_every_asset_is_labelled() -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert list(node.owners) == ["team:catalog"], key
        assert node.kinds, key
        assert node.tags[labels.STAGE_TAG] == node.group_name, key
        assert node.tags[labels.COST_TAG] in ("seconds", "minutes"), key
        assert node.code_version == __version__, key
        for word in WORDS:
            assert word in (node.description or ""), (key, word)


def test_every_check_is_labelled() -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        assert {"owners", "kinds", labels.STAGE_TAG, "code_version"} <= set(spec.metadata), key
        for word in WORDS:
            assert word in (spec.description or ""), (key, word)


def test_every_job_and_automation_says_what_it_does_and_who_answers_for_it() -> None:
    repository = defs.get_repository_def()
    ours = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    for item in (*ours, *repository.schedule_defs, *repository.sensor_defs):
        assert len(item.description or "") > 40, item.name
    for job in ours:
        assert list(job.owners or ()) == ["team:catalog"], job.name
        assert job.tags[labels.STAGE_TAG], job.name


def fields_of(config: dg.Field, path: str) -> Iterator[tuple[str, dg.Field]]:
    """Every field that a launchpad form shows, with where it stands."""
    for name, field in getattr(config.config_type, "fields", {}).items():
        yield f"{path}.{name}", field
        yield from fields_of(field, f"{path}.{name}")


def test_every_field_of_every_form_is_described() -> None:
    described = set()
    for job in defs.get_repository_def().get_all_jobs():
        for node in job.all_node_defs:
            schema: Any = getattr(node, "config_field", None)
            if schema is not None and not job.name.startswith("__"):
                for where, field in fields_of(schema, node.name):
                    assert len(field.description or "") > 30, where
                    described.add(where)
    assert {
        "learning__concept.steps",
        "learning__concept.force",
        "generation__images.attempts",
        "generation__images.retry_quarantined",
        "serve_version.version",
        "serve_version.dry_run",
        "preview_plan.day",
        "preview_concepts.skus",
        "remove_garbage.dry_run",
        "purge.keep_days",
    } <= described


def test_every_step_fails_in_one_line() -> None:
    seen = set()
    for job in defs.get_repository_def().get_all_jobs():
        for node in job.all_node_defs:
            assert isinstance(node, dg.OpDefinition)
            step: Any = node.compute_fn
            assert getattr(step.decorated_fn, MARK, False), node.name
            seen.add(node.name)
    assert len(seen) > 15


def test_the_nightly_assets_have_a_deadline() -> None:
    graph = defs.resolve_asset_graph()
    late = {
        key.to_user_string()
        for key in graph.materializable_asset_keys
        if graph.get(key).freshness_policy is not None
    }
    assert late == {"catalog/index", "learning/memory", "archive/image_manifest"}


def test_the_columns_of_the_published_tables_are_described() -> None:
    graph = defs.resolve_asset_graph()
    for path, schema in (
        (["catalog", "index"], INDEX_SCHEMA),
        (["archive", "image_manifest"], MANIFEST_SCHEMA),
    ):
        shown = graph.get(dg.AssetKey(path)).metadata["dagster/column_schema"]
        assert [column.name for column in shown.columns] == schema.names
        assert all(column.description for column in shown.columns)


def test_owners_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(labels.OWNERS_ENV, " team:studio , anna@example.com,")
    assert labels.owners() == ["team:studio", "anna@example.com"]
    monkeypatch.setenv(labels.OWNERS_ENV, " ")
    assert labels.owners() == ["team:catalog"]
    monkeypatch.setenv(labels.OWNERS_ENV, "anna")
    with pytest.raises(ConfigurationError, match="'anna' is no owner"):
        labels.owners()
