"""Runs executed in this process that the UI shows under their jobs, as those of the daemon.

The UI files a run under a job, and on its start page, by the code location that the run
names. ``execute_in_process`` records none.
"""

import sys
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

LOCATION_NAME = "catalog_pipeline"
"""As ``dagster_home/workspace.yaml`` and ``pyproject.toml`` name it."""

MODULE = "catalog_pipeline.definitions"
PARTITION_TAG = "dagster/partition"


def execute_recorded(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    job_name: str,
    *,
    run_config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    partition_key: str | None = None,
) -> dg.DagsterRun:
    """Run a job to its end and record it as a run of the project's code location.

    A failed step gives a failed run, not an exception.

    Raises:
        DagsterInvalidDefinitionError: no such job.
    """
    job = definitions.resolve_job_def(job_name)
    own = {PARTITION_TAG: partition_key} if partition_key is not None else {}
    origin = ManagedGrpcPythonEnvCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE), LOCATION_NAME
    )
    repository = definitions.get_repository_def().name
    run = instance.create_run_for_job(
        job_def=job,
        run_config=run_config,
        tags={**job.run_tags, **own, **(tags or {})},
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(origin, repository), job_name),
    )
    execute_run(InMemoryJob(job), run, instance)
    ended = instance.get_run_by_id(run.run_id)
    if ended is None:
        raise LookupError(f"the run {run.run_id} of {job_name} is not in the instance")
    return ended
