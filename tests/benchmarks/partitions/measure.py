"""What a size costs, from the first key to the last page."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as db
import yaml
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from catalog_pipeline.records import SkuStatus
from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, load_settings
from catalog_pipeline.workflows.home import open_home
from tests.benchmarks.harness.costs import measured
from tests.benchmarks.harness.home import REPOSITORY
from tests.benchmarks.partitions.web import WebServer, running_web_server
from tests.benchmarks.stores.catalog import evaluate_tick
from tests.builders import make_index_row
from tests.workflows.tiny_catalog import write_photos

RANGE = 25
ASSETS = (["catalog", "photo_set"], ["learning", "concept"])
_PORTION = 10_000

Shards = list[list[str]]
"""The SKUs of each shard."""


@dataclass(frozen=True)
class Cell:
    """One figure: time, the memory of the process that did it, the size of the answer.

    ``cpu_seconds`` are of that process alone: this one, or the web server. ``error`` takes the
    place of the figures where it could not be done at all.
    """

    what: str
    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None
    answer_bytes: int | None = None
    error: str = ""


def measure_all(scratch: Path, keys: int, shards: int) -> list[dict[str, Any]]:
    """Every cell of one size; ``scratch`` holds ``storage.yaml`` and is used up.

    ``keys`` are divided evenly among ``shards``; pages are asked of the first one's assets.
    """
    size = -(-keys // shards)
    listed = [f"{number:07d}" for number in range(keys)]
    names = [listed[start : start + size] for start in range(0, keys, size)]
    dagster_home = _prepare(scratch, {"count": shards, "skus": size})
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        cells = [*_keys(instance, names), *_ticks(instance, names)]
        _make_history(instance, names)
        with running_web_server(scratch, dagster_home) as server:
            cells += _pages(server, instance, names[0])
    for cell in cells:
        print(keys, cell, flush=True)
    return [asdict(cell) for cell in cells]


def _prepare(scratch: Path, shards: dict[str, int]) -> Path:
    """Settings, 25 products with photos, and a ``DAGSTER_HOME`` without a queue."""
    config, home, dagster_home = (scratch / name for name in ("config", "home", "dagster_home"))
    config.mkdir()
    catalog = {"settle_seconds": 0, "sensor_lists_up_to_skus": 0, "shards": shards}
    (config / "catalogs.yaml").write_text(yaml.safe_dump(catalog), "utf-8")
    os.environ |= {CONFIG_ENV: str(config), HOME_ENV: str(home), "DAGSTER_HOME": str(dagster_home)}
    for number in range(RANGE):
        write_photos(load_settings(), f"{number:07d}", seed=number)
    dagster_home.mkdir()
    shipped = yaml.safe_load((REPOSITORY / "dagster_home" / "dagster.yaml").read_text("utf-8"))
    stored = yaml.safe_load((scratch / "storage.yaml").read_text("utf-8")) or {}
    # No daemon takes part: a launched run starts at once.
    shipped["run_coordinator"] = {
        "module": "dagster._core.run_coordinator",
        "class": "DefaultRunCoordinator",
    }
    text = yaml.safe_dump({**shipped, **stored})
    (dagster_home / "dagster.yaml").write_text(text, "utf-8")
    return dagster_home


def _time(what: str, action: Callable[[], object], runs: int = 3) -> Cell:
    costs = []
    for _ in range(runs):
        with measured() as cost:
            action()
        costs.append(cost)
    return Cell(
        what,
        statistics.median(cost.wall_seconds for cost in costs),
        statistics.median(cost.cpu_seconds for cost in costs),
        max(cost.peak_rss_bytes for cost in costs),
    )


def _keys(instance: dg.DagsterInstance, names: Shards) -> Iterator[Cell]:
    # After the settings are written: they say how many shards there are.
    from catalog_pipeline.defs.sku_shards import ADDED_AT_ONCE, SKU_SHARDS, add_partitions

    what = "`add_dynamic_partitions`, all keys of a set in one call"
    try:
        yield _time(what, lambda: instance.add_dynamic_partitions("sku", names[0]), runs=1)
    except db.exc.OperationalError as error:
        yield Cell(what, error=str(error.orig))

    def in_portions() -> None:
        add_partitions(instance, dict(zip(SKU_SHARDS, names, strict=True)))

    yield _time(f"all keys, in portions of {ADDED_AT_ONCE:,}", in_portions, runs=1)
    yield _time("`get_dynamic_partitions`", lambda: instance.get_dynamic_partitions("sku"))


def _ticks(instance: dg.DagsterInstance, names: Shards) -> Iterator[Cell]:
    def learned(sku: str) -> Any:
        return make_index_row(sku, status=SkuStatus.LEARNED, content_hash="a" * 64, photo_count=3)

    rows = [learned(sku) for shard in names for sku in shard]
    new = [
        make_index_row(f"new-{number:02d}", status=SkuStatus.NEW, photo_count=3)
        for number in range(RANGE)
    ]
    open_home(load_settings()).index.update(lambda _: [*rows, *new])

    def tick() -> None:
        found = evaluate_tick(instance)
        (added,) = found.dynamic_partitions_requests or ()
        assert len(added.partition_keys) == RANGE

    yield _time(f"a tick of `catalog_watch` that adds {RANGE}", tick)


def _make_history(instance: dg.DagsterInstance, names: Shards) -> None:
    """Both SKU assets materialized for all keys but the first 25 of each shard.

    One materialization an asset is reported to the instance; its row is copied for the others,
    which reporting one by one would take an hour for.
    """
    from catalog_pipeline.defs.sku_shards import SKU_SHARDS

    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    table = SqlEventLogStorageTable
    for shard, skus in zip(SKU_SHARDS, names, strict=True):
        for asset in ASSETS:
            key = shard.key(dg.AssetKey(asset))
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=skus[-1]))
            with storage.index_connection() as connection:
                last = db.select(table).order_by(table.c.id.desc()).limit(1)
                row = dict(connection.execute(last).one()._mapping)
            del row["id"]
            others = [
                {**row, "partition": sku, "event": row["event"].replace(skus[-1], sku)}
                for sku in skus[RANGE:-1]
            ]
            for start in range(0, len(others), _PORTION):
                with storage.index_connection() as connection:
                    connection.execute(table.insert(), others[start : start + _PORTION])


def _pages(server: WebServer, instance: dg.DagsterInstance, names: list[str]) -> Iterator[Cell]:
    concept = {"assetKey": {"path": ["learning", "concept"]}}
    keys = {"assetKeys": [{"path": asset} for asset in ASSETS]}

    def ask(what: str, query: str, runs: int = 3, **variables: Any) -> Cell:
        wall, cpu, size = [], [], 0
        for _ in range(runs):
            began, used = time.monotonic(), server.cpu_seconds()
            size = len(server.ask(query, **variables))
            wall.append(time.monotonic() - began)
            cpu.append(server.cpu_seconds() - used)
        medians = statistics.median(wall), statistics.median(cpu)
        return Cell(what, *medians, server.peak_rss_bytes(), size)

    yield ask("asset page, first time (the status cache is built)", "health", 1, **concept)
    yield ask("asset page again", "health", **concept)

    def event(number: int = 1) -> None:
        key = dg.AssetKey(["learning", "concept"])
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=names[number]))

    yield _time("reporting one materialization", event)
    yield ask("asset page, one event later", "health", 1, **concept)
    yield ask("asset graph, counts of two SKU assets, first", "live", 1, **keys)
    yield ask("asset graph again", "live", **keys)
    yield ask("one partition of the asset page", "detail", **concept, partitionKey=names[-1])
    yield ask(
        "launchpad of `learn_new_skus`: its keys", "launchpad", assetKeys=[concept["assetKey"]]
    )
    yield from _range_run(server, names)
    yield ask(
        "asking for a backfill of all keys", "backfill", 1, names=names, asset=keys["assetKeys"][0]
    )
    yield ask("page of backfills", "backfills")
    yield ask("page of automation", "automation")


def _range_run(server: WebServer, names: list[str]) -> Iterator[Cell]:
    """A run of ``catalog/photo_set`` over 25 neighbours, real photos and all, as the UI asks."""
    began, used = time.monotonic(), server.cpu_seconds()
    run = server.launch_range(["catalog", "photo_set"], names[0], names[RANGE - 1])
    taken = time.monotonic() - began, server.cpu_seconds() - used
    yield Cell(f"launching a run over {RANGE} keys", *taken, server.peak_rss_bytes())
    status, seconds = server.wait_for_end(run)
    if status != "SUCCESS":
        yield Cell("that run", error=f"ended as {status}")
    else:
        yield Cell("that run of `catalog/photo_set`, from start to end", seconds)
