"""What a data engineer's tools see: pandas, pyarrow, DuckDB, Polars; strings stay strings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.records import ArchiveRow, IndexRow, LearningRow
from catalog_pipeline.settings import S3Settings
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.columns import (
    INDEX_SCHEMA,
    INDEX_SCHEMA_VERSION,
    LEARNING_SCHEMA,
    LEARNING_SCHEMA_VERSION,
    MANIFEST_SCHEMA,
    MANIFEST_SCHEMA_VERSION,
)
from catalog_pipeline.stores.keys import manifest_key
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.s3 import S3ObjectStore
from catalog_pipeline.stores.schemas import ManifestStamps, decode_manifest, encode_manifest
from tests.builders import NIGHT, make_archive_row
from tests.stores.store_processes import Location, Worker

GOLDEN = Path(__file__).parent / "golden"
Rendered = Callable[..., ArchiveRow]
NEXT_NIGHT = NIGHT + timedelta(days=1)


@pytest.fixture
def two_nights(local: Location, rendered: Rendered) -> LocalObjectStore:
    store = local.open()
    assert isinstance(store, LocalObjectStore)
    publish_two_nights(store, rendered)
    return store


def publish_two_nights(objects: ObjectStore, rendered: Rendered) -> None:
    archive = ImageArchive(objects)
    archive.publish_day(NIGHT, [rendered(archive, "a"), rendered(archive, "b")], ["a"])
    row = rendered(archive, "c", day=NEXT_NIGHT, skus=("00123",), scores={})
    archive.publish_day(NEXT_NIGHT, [row], ["c"])
    archive.stage(NIGHT, "left-over", [rendered(archive, "d")])


def test_pandas_reads_the_folder(two_nights: LocalObjectStore) -> None:
    frame = pd.read_parquet(two_nights.root / "manifest")
    assert list(frame.image_id) == ["a", "b", "c"]
    assert list(frame.skus.iloc[0]) == ["00123", "マグ"]
    assert list(frame.day) == [NIGHT, NIGHT, NEXT_NIGHT]
    assert list(frame.dt.astype(str)) == ["2026-03-01", "2026-03-01", "2026-03-02"]
    assert str(frame.created_utc.dtype) == "datetime64[us, UTC]"
    assert dict(frame.scores.iloc[0]) == {"fidelity/00123": 0.5, "fidelity/マグ": 0.25}
    assert list(frame.superseded) == [False, True, False]
    exploded = frame.explode("skus").groupby("skus").image_id.count()
    assert dict(exploded) == {"00123": 3, "マグ": 2}


def test_pyarrow_datasets_prune_by_night(two_nights: LocalObjectStore) -> None:
    dataset = ds.dataset(two_nights.root / "manifest", partitioning="hive")
    assert dataset.schema.field("skus").type.value_type == pa.string()
    table = dataset.to_table(filter=ds.field("dt") == "2026-03-02")
    assert table["image_id"].to_pylist() == ["c"]
    assert dataset.count_rows() == 3


def test_duckdb_reads_the_glob(two_nights: LocalObjectStore) -> None:
    glob = ImageArchive(two_nights).manifest_glob()
    source = f"read_parquet('{glob}', hive_partitioning = true)"
    rows = duckdb.sql(
        f"select dt, day, sku, count(*) from (select *, unnest(skus) as sku from {source}) "
        "where not superseded group by all order by all"
    ).fetchall()
    assert rows == [
        (NIGHT, NIGHT, "00123", 1),
        (NIGHT, NIGHT, "マグ", 1),
        (NEXT_NIGHT, NEXT_NIGHT, "00123", 1),
    ]
    score = duckdb.sql(f"select scores['fidelity/マグ'] from {source} where image_id = 'a'")
    assert score.fetchall() == [(0.25,)]
    kinds = duckdb.sql(f"describe select skus, scores, created_utc, day from {source}").fetchall()
    assert [kind[1] for kind in kinds] == [
        "VARCHAR[]",
        "MAP(VARCHAR, DOUBLE)",
        "TIMESTAMP WITH TIME ZONE",
        "DATE",
    ]


MAPS = ["scores", "photos", "boxes", "concepts", "sources"]
PLAIN = [name for name in MANIFEST_SCHEMA.names if name not in MAPS]
"""The columns that every tool gives back as it got them: a map is a list of pairs in some."""


def by_every_tool(home: Path) -> dict[str, pa.Table]:
    """The folder as each tool reads it without being told anything, sorted; no map."""
    manifest = home / "manifest"
    glob = f"{manifest}/*/*.parquet"
    found = {
        "Polars": pl.read_parquet(manifest, hive_partitioning=True).to_arrow(),
        "DuckDB": duckdb.sql(
            f"select * from read_parquet('{glob}', hive_partitioning = true)"
        ).to_arrow_table(),
        "pyarrow": ds.dataset(manifest, partitioning="hive").to_table(),
        "pandas": pa.Table.from_pandas(
            pd.read_parquet(manifest).drop(columns=MAPS), preserve_index=False
        ),
    }
    for tool, table in found.items():
        assert table.schema.names[-1] == "dt", tool
        plain = [name for name in table.schema.names if name not in (*MAPS, "dt")]
        found[tool] = table.select(plain).sort_by("image_id")
    return found


def assert_they_agree(found: dict[str, pa.Table]) -> None:
    for tool, table in found.items():
        assert table.schema.names == PLAIN, tool
        assert table.to_pylist() == found["pyarrow"].to_pylist(), tool


def test_every_tool_sees_the_same_nights(two_nights: LocalObjectStore) -> None:
    """One of them without a row, and with a writer killed beside another one."""
    two_nights.put(manifest_key(NEXT_NIGHT + timedelta(days=1)), encode_manifest([]))
    (two_nights.root / ".tmp").mkdir(exist_ok=True)
    (two_nights.root / ".tmp" / ".tmp-0123").write_bytes(b"PAR1 half")
    found = by_every_tool(two_nights.root)
    assert found["Polars"]["image_id"].to_pylist() == ["a", "b", "c"]
    assert_they_agree(found)


def test_every_tool_reads_photos_and_boxes_by_sku(local: Location, rendered: Rendered) -> None:
    store = local.open()
    archive = ImageArchive(store)
    box = {"left": 1, "top": 2, "right": 30, "bottom": 40}
    anchored = rendered(
        archive,
        "a",
        mode="exact",
        photos={"00123": "c0ffee", "マグ": "beef"},
        boxes={"00123": tuple(box.values()), "マグ": (5, 6, 7, 8)},
        strength=0.6,
        real_pixels=0.75,
    )
    archive.publish_day(NIGHT, [anchored, rendered(archive, "b")], ["a", "b"])
    assert archive.read_day(NIGHT)[0] == replace(anchored, superseded=False)
    folder = Path(local.root) / "manifest"
    frame = pd.read_parquet(folder)
    assert list(frame["mode"]) == ["exact", "learned"]
    assert dict(frame.photos.iloc[0]) == anchored.photos
    assert dict(frame.boxes.iloc[0])["00123"] == box
    assert len(frame.boxes.iloc[1]) == 0
    glob = archive.manifest_glob()
    query = f"select boxes['00123'].right, photos['マグ'], real_pixels from '{glob}'"
    assert duckdb.sql(query).fetchall() == [(30, "beef", 0.75), (None, None, 0.0)]
    by_polars = pl.read_parquet(folder, hive_partitioning=True).to_arrow()
    for table in (by_polars, ds.dataset(folder, partitioning="hive").to_table()):
        assert dict(table["boxes"].to_pylist()[0])["00123"] == box
        assert dict(table["photos"].to_pylist()[0]) == anchored.photos


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
CONTENTS = st.fixed_dictionaries(
    {
        "prompt": TEXT,
        "skus": st.lists(TEXT, max_size=3).map(tuple),
        "scores": st.dictionaries(TEXT, st.floats(), max_size=3),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "guidance": st.floats(allow_nan=False),
        "superseded": st.booleans(),
        "mode_reason": TEXT,
        "photos": st.dictionaries(TEXT, TEXT, max_size=3),
        "boxes": st.dictionaries(TEXT, st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 4)),
        "created_utc": st.datetimes(timezones=st.just(UTC)),
        "day": st.dates(),
    }
)


@given(st.lists(st.lists(CONTENTS, max_size=3), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_every_tool_sees_the_same_whatever_nights_hold(nights: list[list[dict[str, Any]]]) -> None:
    with TemporaryDirectory() as folder:
        store = LocalObjectStore(Path(folder))
        for number, contents in enumerate(nights):
            rows = [
                replace(make_archive_row(f"{number}-{which}"), **content)
                for which, content in enumerate(contents)
            ]
            store.put(manifest_key(NIGHT + timedelta(days=number)), encode_manifest(rows))
        assert_they_agree(by_every_tool(store.root))


@pytest.mark.parametrize("kill", ["fsync:1:before", "replace:1:before"])
def test_a_writer_killed_beside_a_night_is_in_no_tools_way(local: Location, kill: str) -> None:
    store = local.open()
    worker = Worker(local, "replace_night", (0.0,), None)
    assert worker.wait() == 0
    worker = Worker(local, "replace_night", (5.0,), kill)
    assert worker.wait() == -9
    assert len(store.temporaries()) == 1
    assert_they_agree(by_every_tool(Path(local.root)))


@pytest.mark.parametrize("order", [("schema_1", "schema_7"), ("schema_7", "schema_1")])
def test_nights_of_two_releases_are_read_alike_once_upgraded(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    archive = ImageArchive(LocalObjectStore(tmp_path))
    days = NIGHT, NEXT_NIGHT
    for schema, day in zip(order, days, strict=True):
        folder = tmp_path / f"manifest/dt={day}"
        folder.mkdir(parents=True)
        (file,) = (GOLDEN / schema / "manifest").glob("*/part-0.parquet")
        shutil.copy(file, folder)
    with pytest.raises(pl.exceptions.PolarsError):
        by_every_tool(tmp_path)
    old = order.index("schema_1")
    assert [archive.upgrade_day(day) for day in days] == [old == 0, old == 1]
    found = by_every_tool(tmp_path)
    assert_they_agree(found)
    assert sorted(found["Polars"]["verdict"].to_pylist()) == ["passed", "unscored"]
    assert sorted(found["Polars"]["mode"].to_pylist()) == ["exact", "learned"]


def test_pyarrow_reads_a_bucket(s3_settings: S3Settings, rendered: Rendered) -> None:
    publish_two_nights(S3ObjectStore(s3_settings), rendered)
    bucket = fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=urlsplit(s3_settings.endpoint_url or "").netloc,
        scheme="http",
        region=s3_settings.region,
    )
    folder = f"{s3_settings.bucket}/{s3_settings.prefix}/manifest"
    table = ds.dataset(folder, filesystem=bucket, partitioning="hive").to_table()
    assert table["image_id"].to_pylist() == ["a", "b", "c"]
    assert table["skus"].to_pylist()[2] == ["00123"]


def test_the_published_schemas_list_the_records_fields() -> None:
    for record, schema, version in (
        (IndexRow, INDEX_SCHEMA, INDEX_SCHEMA_VERSION),
        (ArchiveRow, MANIFEST_SCHEMA, MANIFEST_SCHEMA_VERSION),
        (LearningRow, LEARNING_SCHEMA, LEARNING_SCHEMA_VERSION),
    ):
        assert [field.name for field in fields(record)] == schema.names
        assert schema.metadata[b"schema_version"] == b"%d" % version
    assert "dt" not in MANIFEST_SCHEMA.names


def test_another_schema_is_never_read_as_this_one(make_row: Rendered) -> None:
    table = pq.read_table(pa.BufferReader(encode_manifest([make_row("a")])))

    def written(changed: pa.Table, **metadata: str) -> bytes:
        sink = pa.BufferOutputStream()
        stamps = {**table.schema.metadata, **{k.encode(): v for k, v in metadata.items()}}
        pq.write_table(changed.replace_schema_metadata(stamps), sink)
        return bytes(sink.getvalue())

    assert decode_manifest(written(table), "x") == ([make_row("a")], ManifestStamps())
    with pytest.raises(StoreError, match=r"x was written with schema version 99; .* upgrade"):
        decode_manifest(written(table, schema_version="99"), "x")
    with pytest.raises(IntegrityError, match="x has schema 'catalog_index'"):
        decode_manifest(written(table, schema_name="catalog_index"), "x")
    with pytest.raises(IntegrityError, match="x lacks the column"):
        decode_manifest(written(table.drop_columns(["seed"])), "x")
    reordered = table.select(table.schema.names[::-1])
    assert decode_manifest(written(reordered), "x")[0] == [make_row("a")]


def test_a_box_has_four_sides(make_row: Rendered) -> None:
    with pytest.raises(StoreError, match="does not fit the schema of image_manifest"):
        encode_manifest([make_row("a", boxes={"00123": (1, 2, 3)})])


def test_every_date_and_extreme_survives(make_row: Rendered) -> None:
    row = make_row(
        "a", day=date(1970, 1, 1), skus=(), scores={}, seed=2**63 - 1, guidance=1e-300, prompt=""
    )
    assert decode_manifest(encode_manifest([row]), "x")[0] == [row]
    assert decode_manifest(encode_manifest([]), "x") == ([], ManifestStamps())


def test_manifests_of_two_versions_are_read_by_name(tmp_path: Path) -> None:
    for schema, day in (("schema_1", "2026-03-01"), ("schema_7", "2026-03-02")):
        folder = tmp_path / f"manifest/dt={day}"
        folder.mkdir(parents=True)
        (file,) = (GOLDEN / schema / "manifest").glob("*/part-0.parquet")
        shutil.copy(file, folder)
    glob = str(tmp_path / "manifest/*/*.parquet")
    by_name = f"read_parquet('{glob}', hive_partitioning = true, union_by_name = true)"
    found = duckdb.sql(f"select dt, verdict, mode from {by_name} order by dt").fetchall()
    assert [tuple(row[1:]) for row in found] == [(None, None), ("passed", "exact")]
    newest = ds.dataset(tmp_path / "manifest/dt=2026-03-02").schema
    table = ds.dataset(tmp_path / "manifest", schema=newest).to_table(columns=["attempts"])
    assert sorted(table["attempts"].to_pylist(), key=str) == [2, None]
