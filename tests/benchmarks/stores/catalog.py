"""The index, the sensor and the nightly refresh over a large catalog on a disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog_pipeline.catalog.local import RACY_SECONDS
from catalog_pipeline.records import SkuStatus
from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, load_settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from tests.benchmarks.stores.made_up import Sizes, write_products
from tests.benchmarks.stores.measurement import Measurement, measure

if TYPE_CHECKING:
    import dagster as dg

LIST_SECONDS = 5.0
NIGHT_SECONDS = 30.0
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def measure_catalog(folder: Path, sizes: Sizes) -> Iterator[Measurement]:
    """List, tick and refresh; ``folder`` is empty and becomes a home with a Dagster instance."""
    config, home = folder / "config", folder / "home"
    config.mkdir(parents=True)
    (config / "catalogs.yaml").write_text("settle_seconds: 0\n", "utf-8")
    os.environ[CONFIG_ENV], os.environ[HOME_ENV] = str(config), str(home)
    settings = load_settings()
    write_products(settings.catalog_root, sizes.skus, sizes.photos)
    # Younger files are read again by the next listing, as they may still change.
    time.sleep(RACY_SECONDS + 0.1)
    many = f"{sizes.skus:,} SKUs, {sizes.photos} photos each"
    yield measure(
        f"first index of {many}: every file is read and hashed",
        lambda: len(refresh_index(open_home(settings)).added),
        prepare=lambda: shutil.rmtree(home / "catalog", ignore_errors=True),
    )
    yield measure(
        f"index again, nothing has changed: {many}",
        lambda: len(refresh_index(open_home(settings)).rows),
        target_seconds=LIST_SECONDS,
    )
    yield from _measure_dagster(folder / "dagster_home", sizes)


def _measure_dagster(dagster_home: Path, sizes: Sizes) -> Iterator[Measurement]:
    import dagster as dg

    from catalog_pipeline.definitions import defs
    from catalog_pipeline.defs.sku_shards import SKU_SHARDS, add_partitions

    dagster_home.mkdir()
    settings = load_settings()
    index = open_home(settings).index
    with dg.DagsterInstance.local_temp(str(dagster_home)) as instance:
        yield measure(
            f"sensor tick, all {sizes.skus:,} SKUs are new",
            lambda: tick(instance),
            target_seconds=LIST_SECONDS,
        )
        names = [row.sku for row in index.read()]
        add_partitions(instance, {SKU_SHARDS[0]: names})
        index.update(
            lambda rows: [
                replace(row, status=SkuStatus.LEARNED, learned_hash=row.content_hash)
                for row in rows
            ]
        )
        yield measure(
            f"sensor tick, {sizes.skus:,} SKUs, nothing is new",
            lambda: tick(instance),
            target_seconds=LIST_SECONDS,
        )

        def night() -> str:
            job = defs.resolve_job_def("refresh_catalog")
            result = job.execute_in_process(instance=instance, run_config=_QUIET)
            outcomes = list(learn_concepts(open_home(settings)))
            assert result.success
            assert outcomes == []
            return f"then: {tick(instance)}"

        yield measure(
            f"nightly refresh of {sizes.skus:,} SKUs with nothing to do: the Dagster run of "
            "`refresh_catalog`, `learn`, a tick",
            night,
            target_seconds=NIGHT_SECONDS,
        )


def tick(instance: dg.DagsterInstance) -> str:
    """What a turn of ``catalog_watch`` asks for, in words."""
    asked = evaluate_tick(instance)
    added = sum(len(r.partition_keys) for r in asked.dynamic_partitions_requests or ())
    return f"{len(asked.run_requests or ())} runs asked for, {added:,} partitions added"


def evaluate_tick(instance: dg.DagsterInstance) -> Any:
    """A turn of ``catalog_watch``; nothing of it is carried out."""
    import dagster as dg

    from catalog_pipeline.definitions import defs
    from catalog_pipeline.defs.catalog.sensors import SENSOR_NAME

    repository = defs.get_repository_def()
    with dg.build_sensor_context(
        instance=instance,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
        sensor_name=SENSOR_NAME,
    ) as context:
        return repository.get_sensor_def(SENSOR_NAME).evaluate_tick(context)
