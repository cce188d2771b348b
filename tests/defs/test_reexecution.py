"""What a person does in the UI, by the UI's own GraphQL over a served code location."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.api import execute_run
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster_graphql.test.utils import execute_dagster_graphql

from tests.defs.scratch_line import Line

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PipelineNotFoundError { message }
  }
}
"""

RE_EXECUTE = """
mutation ReExecute($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""


@pytest.fixture
def served(launching_instance: dg.DagsterInstance) -> Iterator[WorkspaceRequestContext]:
    """The project's code location, served by its own process, as the webserver sees it."""
    target = ModuleTarget(
        module_name="catalog_pipeline.definitions",
        attribute=None,
        working_directory=".",
        location_name="catalog_pipeline",
    )
    with WorkspaceProcessContext(launching_instance, target) as process:
        yield process.create_request_context()


def ask(context: WorkspaceRequestContext, mutation: str, params: Mapping[str, Any]) -> str:
    """Run a launching mutation; the id of the run."""
    answer = execute_dagster_graphql(context, mutation, {"params": params})
    assert answer.errors is None, answer.errors
    (result,) = answer.data.values()
    assert result["__typename"] == "LaunchRunSuccess", result
    return str(result["run"]["runId"])


def launch_run(context: WorkspaceRequestContext, job: str, tags: Mapping[str, str]) -> str:
    """Queue a run as the UI does; its id."""
    (location,) = context.code_locations
    (repository,) = location.get_repositories()
    params = {
        "selector": {
            "jobName": job,
            "repositoryName": repository,
            "repositoryLocationName": location.name,
        },
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
    }
    return ask(context, LAUNCH, params)


def launch(context: WorkspaceRequestContext, job: str, tags: Mapping[str, str]) -> dg.DagsterRun:
    return finished_run(context, launch_run(context, job, tags))


def re_execute_from_failure(
    context: WorkspaceRequestContext, parent: dg.DagsterRun
) -> dg.DagsterRun:
    params = {"parentRunId": parent.run_id, "strategy": "FROM_FAILURE"}
    run = finished_run(context, ask(context, RE_EXECUTE, params))
    assert run.parent_run_id == run.root_run_id == parent.run_id
    return run


def finished_run(context: WorkspaceRequestContext, run_id: str) -> dg.DagsterRun:
    """Execute a launched run as a run worker does, but here, where the stand-ins are."""
    run = context.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.job_code_origin is not None
    execute_run(recon_job_from_origin(run.job_code_origin), run, context.instance)
    run = context.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.is_finished
    return run


def steps(context: WorkspaceRequestContext, run: dg.DagsterRun) -> list[str]:
    entries = context.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
    return [str(entry.step_key) for entry in entries]


def test_failures_are_repaired_from_where_they_happened(
    line: Line, served: WorkspaceRequestContext
) -> None:
    line.add_products("mug_a", "mug_b")
    launch(served, "refresh_catalog", {})
    line.write("refused_skus.txt", "mug_b")
    both = {
        "dagster/asset_partition_range_start": "mug_a",
        "dagster/asset_partition_range_end": "mug_b",
    }
    failed = launch(served, "learn_new_skus", both)
    assert not failed.is_success
    assert line.statuses() == {"mug_a": "learned", "mug_b": "failed"}
    line.write("refused_skus.txt")
    assert re_execute_from_failure(served, failed).is_success
    assert line.statuses() == {"mug_a": "learned", "mug_b": "learned"}
    concept = dg.AssetKey(["learning", "concept"])
    assert set(served.instance.get_materialized_partitions(concept)) == {"mug_a", "mug_b"}

    line.write("broken_sampler")
    night = launch(served, "nightly_generation", {"dagster/partition": "2026-02-03"})
    assert not night.is_success
    assert steps(served, night)[-1] == "generation__images"
    (line.settings.home / "broken_sampler").unlink()
    repaired = re_execute_from_failure(served, night)
    assert repaired.is_success
    # Neither the memory nor the plan is made again.
    assert steps(served, repaired) == [
        "generation__images",
        "archive__image_manifest",
        "archive__summary",
        "archive__summary_archive_has_unique_image_ids",
    ]
