"""A night that is replaced many times a second: the ways to read it that never fail.

A tool that opens a file twice, or keeps what it knows of it, meets two states at one path
when a publication falls in between. What docs/stores.md tells to do instead is done here.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from catalog_pipeline.errors import ObjectNotFoundError
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.keys import manifest_key
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.upkeep.archive_summary import query_archive, repeated_image_ids
from tests.builders import NIGHT
from tests.stores.store_processes import Location, Worker, night_states
from tests.stores.test_leases import wait_for

READS = 60
WHOLE = {len(rows) for rows in night_states()}


@pytest.fixture
def replaced(location: Location) -> Iterator[ObjectStore]:
    """A store in which another process replaces a night as fast as it can."""
    objects = location.open()
    worker = Worker(location, "replace_night", (60.0,), None)
    try:
        wait_for(lambda: objects.exists(manifest_key(NIGHT)))
        yield objects
    finally:
        worker.end()


def whole_files(home: Path) -> pa.Table:
    """Every night as it is, each file opened once and read to its end."""
    files = sorted(home.glob("manifest/dt=*/part-0.parquet"))
    return pa.concat_tables(pq.read_table(io.BytesIO(file.read_bytes())) for file in files)


def by_duckdb(files: list[str]) -> int:
    source = f"read_parquet({files}, hive_partitioning = true)"
    (found,) = duckdb.sql(f"select count(dt), min(prompt), max(image_id) from {source}").fetchall()
    return int(found[0])


def by_duckdb_over(nights: pa.Table) -> int:
    (found,) = duckdb.sql("select count(*), min(prompt) from nights").fetchall()
    return int(found[0])


FOLDERS: dict[str, Callable[[Path], int]] = {
    "pandas": lambda home: len(pd.read_parquet(home / "manifest")),
    "pyarrow": lambda home: ds.dataset(home / "manifest", partitioning="hive").to_table().num_rows,
    "DuckDB": lambda home: by_duckdb_over(whole_files(home)),
    "Polars": lambda home: pl.DataFrame(pl.from_arrow(whole_files(home))).height,
}
FILES: dict[str, Callable[[list[str]], int]] = {
    "pandas": lambda files: len(pd.read_parquet(files)),
    "pyarrow": lambda files: ds.dataset(files, partitioning="hive").to_table().num_rows,
    "DuckDB": by_duckdb,
    "Polars": lambda files: pl.scan_parquet(files, hive_partitioning=True).collect().height,
}


@pytest.mark.parametrize("location", ["local"], indirect=True)
@pytest.mark.parametrize("tool", FOLDERS)
def test_the_folder_read_as_documented(replaced: Any, tool: str) -> None:
    assert {FOLDERS[tool](replaced.root) for _ in range(READS)} <= WHOLE


@pytest.mark.parametrize("location", ["local"], indirect=True)
@pytest.mark.parametrize("tool", FILES)
def test_the_files_of_a_snapshot(replaced: ObjectStore, tool: str) -> None:
    archive = ImageArchive(replaced)
    assert {FILES[tool](archive.snapshot()) for _ in range(READS)} <= WHOLE


@pytest.mark.parametrize("location", ["local"], indirect=True)
def test_a_dataset_over_a_snapshot_may_be_kept(replaced: ObjectStore) -> None:
    kept = ds.dataset(ImageArchive(replaced).snapshot(), partitioning="hive")
    assert len({kept.to_table().num_rows for _ in range(READS)} & WHOLE) == 1


@pytest.mark.parametrize("location", ["local"], indirect=True)
def test_the_summary_of_the_archive(replaced: Any, settings: Settings) -> None:
    assert settings.home == replaced.root
    home = open_home(settings)
    assert {query_archive(home).per_day[0]["rows"] for _ in range(READS // 2)} <= WHOLE
    assert repeated_image_ids(home) == []


@pytest.mark.parametrize("location", ["s3"], indirect=True)
def test_a_bucket(replaced: ObjectStore, s3_settings: S3Settings) -> None:
    client = boto3.client("s3", endpoint_url=s3_settings.endpoint_url)
    bucket, night = s3_settings.bucket, f"{s3_settings.prefix}/{manifest_key(NIGHT)}"

    def one_get() -> int:
        body = client.get_object(Bucket=bucket, Key=night)["Body"].read()
        return int(pq.read_table(io.BytesIO(body)).num_rows)

    assert {one_get() for _ in range(READS)} <= WHOLE
    endpoint = urlsplit(s3_settings.endpoint_url or "")
    filesystem = fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=endpoint.netloc,
        scheme=endpoint.scheme,
        region=s3_settings.region,
    )

    def snapshot() -> int:
        files = [uri.removeprefix("s3://") for uri in ImageArchive(replaced).snapshot()]
        return int(ds.dataset(files, filesystem=filesystem, partitioning="hive").count_rows())

    assert {snapshot() for _ in range(READS)} <= WHOLE


def test_a_snapshot_names_what_is_missing(objects: ObjectStore) -> None:
    archive = ImageArchive(objects)
    assert archive.snapshot() == []
    with pytest.raises(ObjectNotFoundError):
        archive.snapshot([NIGHT])
    objects.put(manifest_key(NIGHT), b"a night without its copy")
    with pytest.raises(ObjectNotFoundError, match=r"copy that file to it, with its time"):
        archive.snapshot()
