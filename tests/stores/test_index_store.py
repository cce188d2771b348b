"""The catalog index: one object, no lost update, no needless write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import duckdb
import pytest

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.records import IndexRow, SkuStatus
from catalog_pipeline.stores.index import INDEX_KEY, IndexStore
from catalog_pipeline.stores.objects import ObjectStore
from tests.stores.store_processes import Location, Worker


def test_rows_come_back_sorted_and_whole(
    objects: ObjectStore, make_index_row: Callable[..., IndexRow]
) -> None:
    index = IndexStore(objects)
    assert index.read() == []
    rows = [
        make_index_row("マグ", status=SkuStatus.FAILED, reason="2 photos, expected 3"),
        make_index_row("00123", status=SkuStatus.LEARNED, learned_hash="h", bytes=5_000_000_000),
    ]
    assert index.update(lambda _: rows) == rows[::-1]
    assert index.read() == rows[::-1]


def test_an_update_that_changes_nothing_writes_nothing(
    objects: ObjectStore, make_index_row: Callable[..., IndexRow]
) -> None:
    index = IndexStore(objects)
    index.update(lambda rows: [*rows, make_index_row("a")])
    before = objects.read(INDEX_KEY)
    index.update(lambda rows: rows)
    index.update(lambda rows: [replace(rows[0])])
    assert objects.read(INDEX_KEY) == before


def test_no_update_of_rival_processes_is_lost(
    objects: ObjectStore, start: Callable[..., Worker]
) -> None:
    workers = [start("add_skus", name, 5) for name in "ab"]
    killed = start("add_skus", "d", 5, kill="compare_and_swap:3:before")
    assert [worker.wait() for worker in workers] == [0] * 2
    assert killed.wait() == -9
    skus = {row.sku for row in IndexStore(objects).read()}
    expected = {f"{name}-{number}" for name in "ab" for number in range(5)}
    assert expected <= skus <= expected | {"d-0", "d-1"}


def test_a_sku_twice_or_a_time_without_zone_is_refused(
    objects: ObjectStore, make_index_row: Callable[..., IndexRow]
) -> None:
    index = IndexStore(objects)
    with pytest.raises(StoreError, match="'a' more than once"):
        index.update(lambda _: [make_index_row("a"), make_index_row("a", name="other")])
    naive = make_index_row("a", first_seen_utc=datetime(2026, 1, 1))
    with pytest.raises(StoreError, match=r"'first_seen_utc' .* without a time zone"):
        index.update(lambda _: [naive])
    with pytest.raises(StoreError, match="does not fit"):
        index.update(lambda _: [make_index_row("a", photo_count=2**40)])
    assert index.read() == []


def test_a_broken_index_is_never_taken_for_an_empty_one(
    objects: ObjectStore, make_index_row: Callable[..., IndexRow]
) -> None:
    objects.put(INDEX_KEY, b"not parquet")
    with pytest.raises(IntegrityError, match=r"index.parquet is not a readable Parquet file"):
        IndexStore(objects).update(lambda rows: [*rows, make_index_row("a")])
    assert objects.read(INDEX_KEY).data == b"not parquet"


def test_duckdb_reads_skus_as_strings(
    local: Location, make_index_row: Callable[..., IndexRow]
) -> None:
    objects = local.open()
    IndexStore(objects).update(lambda _: [make_index_row("00123")])
    found = duckdb.sql(f"select sku, status from read_parquet('{objects.uri(INDEX_KEY)}')")
    assert found.fetchall() == [("00123", "new")]
