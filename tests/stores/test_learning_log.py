"""The learning log: one row an attempt, added once, on the day on which it ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.stores.columns import INDEX_SCHEMA, LEARNING_SCHEMA, MANIFEST_SCHEMA
from catalog_pipeline.stores.learning_log import LearningLog
from catalog_pipeline.stores.objects import ObjectStore
from tests.stores.test_golden import ATTEMPT

DAY = date(2026, 3, 1)


@pytest.fixture
def log(objects: ObjectStore) -> LearningLog:
    return LearningLog(objects)


def test_an_attempt_is_added_once(log: LearningLog, objects: ObjectStore) -> None:
    assert (log.days(), log.read_day(DAY)) == ([], [])
    log.add(ATTEMPT)
    written = objects.read("learning/dt=2026-03-01/part-0.parquet").data
    log.add(replace(ATTEMPT, seconds=1.0))
    assert log.read_day(DAY) == [ATTEMPT]
    assert objects.read("learning/dt=2026-03-01/part-0.parquet").data == written


def test_an_attempt_is_of_the_day_in_utc_on_which_it_ended(log: LearningLog) -> None:
    tokyo = timezone(timedelta(hours=9))
    late = replace(ATTEMPT, ended_utc=datetime(2026, 3, 2, 8, 59, tzinfo=tokyo))
    log.add(late)
    assert log.days() == [DAY]
    assert log.read_day(DAY) == [replace(late, ended_utc=datetime(2026, 3, 1, 23, 59, tzinfo=UTC))]


def test_of_two_writers_at_once_none_is_lost(log: LearningLog) -> None:
    rows = [replace(ATTEMPT, attempt_id=f"{number:02}@v") for number in range(12)]
    writers = [Thread(target=log.add, args=[row]) for row in rows]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert log.read_day(DAY) == rows


def test_what_does_not_fit_is_refused(log: LearningLog, objects: ObjectStore) -> None:
    with pytest.raises(StoreError, match="without a time zone"):
        log.add(replace(ATTEMPT, ended_utc=datetime(2026, 3, 1)))
    objects.put("learning/dt=2026-03-01/part-0.parquet", b"no Parquet")
    with pytest.raises(IntegrityError, match="not a readable Parquet file"):
        log.add(ATTEMPT)


def test_every_column_says_what_it_holds(log: LearningLog, objects: ObjectStore) -> None:
    for schema in (INDEX_SCHEMA, MANIFEST_SCHEMA, LEARNING_SCHEMA):
        assert schema.metadata[b"grain"].startswith(b"one row per ")
        for field in schema:
            assert len(field.metadata[b"description"]) > 4, field.name
            assert field.nullable == field.metadata[b"description"].endswith(b"null before")
    log.add(ATTEMPT)
    data = objects.read("learning/dt=2026-03-01/part-0.parquet").data
    photos = pq.read_schema(pa.BufferReader(data)).field("photos")
    assert photos.metadata[b"description"].startswith(b"its photos")
