"""One turn of the folder watcher without a daemon: look, then learn what was found."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from catalog_pipeline.defs.catalog.sensors import RUN_KEY_TAG, SENSOR_NAME
from catalog_pipeline.defs.ops.recorded_runs import execute_recorded

CURSOR_KEY = "catalog_pipeline/catalog_watch/cursor"
SENSOR_TAG = "dagster/sensor_name"
MAX_RETRIES_TAG = "dagster/max_retries"


def tick_sensor_and_run(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    *,
    run_config: Mapping[str, Any] | None = None,
) -> list[dg.DagsterRun]:
    """Evaluate ``catalog_watch`` once and run, in this process, every run it asks for.

    ``definitions`` is ``catalog_pipeline.definitions.defs``; ``run_config`` goes to every
    run (to choose a logger, for instance).

    Does what the daemon does in the same order: new partitions first, then one run
    per run key that no run has had yet, then the cursor (kept in the instance, apart
    from the daemon's own). The runs end before this returns and show in the UI of
    the same ``DAGSTER_HOME``. A failed SKU gives a failed run, not an exception.

    Returns:
        The finished runs, in the order they were asked for; ``[]`` for a skipped tick.

    Raises:
        ConfigurationError: the settings of ``CATALOG_PIPELINE_CONFIG`` cannot be read.
    """
    repository = definitions.get_repository_def()
    cursors = instance.daemon_cursor_storage
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursors.get_cursor_values({CURSOR_KEY}).get(CURSOR_KEY),
        resources=repository.get_top_level_resources(),
        repository_def=repository,
        sensor_name=SENSOR_NAME,
    ) as context:
        tick = repository.get_sensor_def(SENSOR_NAME).evaluate_tick(context)
    for request in tick.dynamic_partitions_requests or ():
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    for event in tick.asset_events:
        instance.report_runless_asset_event(event)
    runs = [
        _execute(instance, definitions, request, run_config)
        for request in tick.run_requests or ()
        if not instance.get_runs(filters=dg.RunsFilter(tags={RUN_KEY_TAG: str(request.run_key)}))
    ]
    if tick.cursor is not None:
        cursors.set_cursor_values({CURSOR_KEY: tick.cursor})
    return runs


def _execute(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    request: dg.RunRequest,
    run_config: Mapping[str, Any] | None,
) -> dg.DagsterRun:
    # Only a daemon retries runs; without the last tag, the next tick would wait for one.
    named = {RUN_KEY_TAG: str(request.run_key), SENSOR_TAG: SENSOR_NAME, MAX_RETRIES_TAG: "0"}
    return execute_recorded(
        instance,
        definitions,
        str(request.job_name),
        run_config=run_config,
        tags={**request.tags, **named},
    )
