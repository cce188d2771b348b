"""A manifest of a million rows: queries; publishing a night; verifying one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from itertools import count
from pathlib import Path

import numpy as np

from catalog_pipeline.evaluation.contact_sheet import encode_png
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.archive import image_key
from catalog_pipeline.stores.keys import manifest_key
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.schemas import encode_manifest
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.plan_night import encode_plan, plan_key
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.upkeep.verify import verify
from tests.benchmarks.stores.made_up import (
    Sizes,
    make_plan,
    make_rows,
    night,
    picture,
    picture_digest,
    sku_name,
)
from tests.benchmarks.stores.measurement import Measurement, measure
from tests.benchmarks.stores.versions import store_versions

QUERY_SECONDS = 0.5
PUBLISH_SECONDS = 2.0
BUCKET_SECONDS = 10.0
BATCH = 8
"""Pictures a shard of staged rows, as ``generation.yaml: batch_size`` has it."""


def measure_queries(folder: Path, sizes: Sizes) -> Iterator[Measurement]:
    """One SKU of one night, and of all, out of every row."""
    objects = LocalObjectStore(folder)
    nights = iter(range(sizes.nights))

    def write_night() -> str:
        day = night(next(nights))
        data = encode_manifest(list(make_rows(day, sizes.rows, sizes.skus)))
        objects.put(manifest_key(day), data)
        return f"{len(data):,} bytes a night"

    yield measure(
        f"a manifest of {sizes.rows:,} rows encoded and stored", write_night, runs=sizes.nights
    )
    what = f"of {sizes.nights * sizes.rows:,} rows in {sizes.nights} nights"
    day, sku = night(sizes.nights // 2), sku_name(sizes.skus // 3)
    for tool, query in {"DuckDB": _ask_duckdb, "pyarrow": _ask_pyarrow}.items():
        yield measure(
            f"{tool}: the pictures of a SKU on a day, {what}",
            lambda query=query: query(folder, sku, day),
            target_seconds=QUERY_SECONDS,
        )
        yield measure(
            f"{tool}: the pictures of a SKU, all days, {what}",
            lambda query=query: query(folder, sku, None),
        )


def _ask_duckdb(home: Path, sku: str, day: date | None) -> str:
    import duckdb

    source = f"read_parquet('{home}/manifest/*/*.parquet', hive_partitioning = true)"
    where = f"list_contains(skus, '{sku}')" + (f" and dt = '{day}'" if day else "")
    rows = duckdb.sql(f"select path, prompt from {source} where {where}").fetchall()
    assert rows
    return f"{len(rows)} rows"


def _ask_pyarrow(home: Path, sku: str, day: date | None) -> str:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    table = ds.dataset(home / "manifest", partitioning="hive").to_table(
        columns=["path", "prompt", "skus"],
        filter=ds.field("dt") == day.isoformat() if day else None,
    )
    parents = pc.list_parent_indices(table["skus"])
    found = pc.unique(parents.filter(pc.equal(pc.list_flatten(table["skus"]), sku)))
    rows = table.take(found).to_pylist()
    assert rows
    return f"{len(rows)} rows"


def measure_publishing(settings: Settings, where: str, sizes: Sizes) -> Iterator[Measurement]:
    """The rows of a night whose pictures are stored become its manifest, two ways."""
    home = open_home(settings)
    _store_pictures(home.objects, sizes.rows)
    nights = map(night, count(1000))
    rows: list[ArchiveRow] = []

    def make_night() -> None:
        rows[:] = make_rows(next(nights), sizes.rows, sizes.skus)

    def publish() -> None:
        report = home.archive.publish_day(rows[0].day, rows, [row.image_id for row in rows])
        assert report.added == sizes.rows

    yield measure(
        f"publishing a night of {sizes.rows:,} rows, {where}: `ImageArchive.publish_day`",
        publish,
        prepare=make_night,
        target_seconds=PUBLISH_SECONDS,
    )

    def stage() -> None:
        make_night()
        day = rows[0].day
        home.objects.put(plan_key(day), encode_plan(make_plan(day, sizes.rows, sizes.skus), ""))
        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        shards = [f"{number:05d}" for number in range(len(batches))]
        with ThreadPoolExecutor(BATCH) as pool:
            list(pool.map(home.archive.stage, [day] * len(shards), shards, batches))

    def publish_staged() -> None:
        assert publish_manifest(open_home(settings), rows[0].day).added == sizes.rows

    yield measure(
        f"the same from a plan and {-(-sizes.rows // BATCH):,} staged shards, {where}: the "
        "workflow `publish_manifest`, which clears them too",
        publish_staged,
        prepare=stage,
        target_seconds=PUBLISH_SECONDS if where == "folder" else BUCKET_SECONDS,
    )


def _store_pictures(objects: ObjectStore, number: int) -> None:
    """Pictures as a rendering leaves them; a folder is filled without a flush for each."""
    pictures = {image_key(picture_digest(each)): picture(each) for each in range(number)}
    if isinstance(objects, LocalObjectStore):
        for key, data in pictures.items():
            path = objects.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    else:
        with ThreadPoolExecutor(BATCH) as pool:
            list(pool.map(objects.put, pictures, pictures.values()))


def measure_verify(settings: Settings, sizes: Sizes) -> Iterator[Measurement]:
    """Every hash behind a night of real PNG files that the head of a collection painted."""
    home = open_home(settings)
    head = store_versions(home.objects, versions=1, concepts=sizes.concepts)
    random = np.random.default_rng(0)
    day = night(0)
    rows = []
    for row in make_rows(day, sizes.pictures, sizes.concepts, head.version):
        png = encode_png(random.integers(0, 256, (128, 128, 3), dtype=np.uint8))
        path, sha256 = home.archive.put_image(png)
        rows.append(replace(row, path=path, sha256=sha256))
    home.archive.publish_day(day, rows, [row.image_id for row in rows])

    def check() -> str:
        report = verify(open_home(settings), day)
        assert report.pictures == sizes.pictures
        assert not report.problems
        return f"{report.pictures:,} pictures and {report.objects:,} other objects hashed"

    yield measure(
        f"`verify` of a night of {sizes.pictures:,} pictures of 128 px, painted by a version of "
        f"{sizes.concepts:,} SKUs",
        check,
    )
