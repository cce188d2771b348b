"""The views of stores/views.sql in a plain DuckDB: columns, empty homes, earlier schemas."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from catalog_pipeline.records import sources_of
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.columns import (
    ADDED,
    INDEX_SCHEMA,
    LEARNING_SCHEMA,
    MANIFEST_SCHEMA,
)
from catalog_pipeline.stores.learning_log import LearningLog
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.schemas import decode_index, decode_manifest
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.upkeep.query import describe_views, views_sql
from tests.builders import MOMENT, NIGHT, make_archive_row
from tests.workflows.upkeep.data_home import LEARNED, fill_home, learning_row

GOLDEN = Path(__file__).parent / "golden"
VIEWS = tuple(view.name for view in describe_views())


def opened(home: Path, **variables: list[str]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET VARIABLE home = ?", [str(home)])
    for name, value in variables.items():
        connection.execute(f"SET VARIABLE {name} = ?", [value])
    connection.execute(views_sql())
    return connection


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def test_the_views_are_what_they_should_be() -> None:
    assert set(VIEWS) == {
        *("images", "superseded", "held_back", "products", "scores", "catalog", "left_out"),
        *("learning", "learning_photos", "coverage", "nights", "lineage", "history", "changes"),
    }
    columns = {view.name: tuple(name for name, _, _ in view.columns) for view in describe_views()}
    assert columns["images"] == (*MANIFEST_SCHEMA.names, "state")
    assert columns["held_back"] == columns["images"]
    assert columns["history"][: len(columns["images"])] == columns["images"]
    assert columns["catalog"] == tuple(INDEX_SCHEMA.names)
    assert columns["learning"] == tuple(LEARNING_SCHEMA.names)
    assert columns["scores"] == ("image_id", "day", "state", "sku", "score", "value")


@pytest.mark.parametrize("view", VIEWS)
def test_an_empty_home_has_views_without_rows(tmp_path: Path, view: str) -> None:
    assert rows(opened(tmp_path / "nowhere"), f"FROM {view}") == []


def test_types_are_the_same_with_and_without_files(tmp_path: Path, settings: Settings) -> None:
    """A type that only the files have would show as soon as there are some."""
    fill_home(open_home(settings).objects)
    typed = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
    filled, empty = (
        {(view, name): kind for view, name, kind in rows(opened(home), typed)}
        for home in (settings.home, tmp_path / "nowhere")
    )
    assert filled == empty


@pytest.mark.parametrize("schema", [f"schema_{number}" for number in range(1, 8)])
def test_homes_of_earlier_releases_are_seen_as_the_program_reads_them(
    tmp_path: Path, schema: str
) -> None:
    home = tmp_path / "home"
    shutil.copytree(GOLDEN / schema, home)
    connection = opened(home)
    data = (home / "manifest/dt=2026-03-01/part-0.parquet").read_bytes()
    read, _ = decode_manifest(data, "x")
    nested = ("skus", "boxes", "created_utc", "sources")
    plain = [name for name in MANIFEST_SCHEMA.names if name not in nested]
    found = rows(connection, f"SELECT {', '.join(plain)} FROM images ORDER BY image_id")
    assert found == [tuple(getattr(row, name) for name in plain) for row in read]
    boxes = rows(connection, 'SELECT image_id, sku, "left", bottom FROM products ORDER BY ALL')
    placed = {(n, sku): (left, bottom) for n, sku, left, bottom in boxes if left is not None}
    assert (
        placed.items()
        >= {
            (row.image_id, sku): (box[0], box[3]) for row in read for sku, box in row.boxes.items()
        }.items()
    )
    drawn = (
        "SELECT image_id, sku, collection, adapter_version FROM products WHERE state != 'held back'"
    )
    assert set(rows(connection, drawn)) == {
        (row.image_id, sku, *source) for row in read for sku, source in sources_of(row).items()
    }
    index = decode_index((home / "catalog/index.parquet").read_bytes(), "x")
    young = "sku, learned_version, photos_used, left_out"
    assert rows(connection, f"SELECT {young} FROM catalog ORDER BY sku") == [
        (row.sku, row.learned_version, row.photos_used, dict(row.left_out)) for row in index
    ]
    for view in VIEWS:
        rows(connection, f"FROM {view}")
    states = ImageArchive(LocalObjectStore(home)).history(NIGHT)
    assert rows(connection, "SELECT count(DISTINCT version) FROM history") == [(len(states),)]
    assert set(ADDED["image_manifest"]) < set(MANIFEST_SCHEMA.names)


def test_nights_of_two_releases_stand_side_by_side(tmp_path: Path) -> None:
    for schema, day in (("schema_1", "2026-03-01"), ("schema_7", "2026-03-02")):
        folder = tmp_path / f"manifest/dt={day}"
        folder.mkdir(parents=True)
        shutil.copy(GOLDEN / schema / "manifest/dt=2026-03-01/part-0.parquet", folder)
    found = rows(opened(tmp_path), "SELECT verdict, mode, attempts FROM images ORDER BY attempts")
    assert found == [("unscored", "learned", 1), ("passed", "exact", 2)]


def test_lineage_takes_the_newest_attempt_before_the_picture(tmp_path: Path) -> None:
    """The same concept learned twice, and once more after the picture was made."""
    store = LocalObjectStore(tmp_path)
    log, archive = LearningLog(store), ImageArchive(store)
    for number, ended in enumerate((LEARNED, LEARNED + timedelta(hours=1), MOMENT)):
        row = learning_row("MUG", f"v{number}", ended + timedelta(seconds=number == 2))
        log.add(row if number else learning_row("MUG", "v0", ended))
    failed = learning_row("MUG", "v9", LEARNED + timedelta(hours=2), status="failed")
    log.add(failed)
    same = {"concepts": {"MUG": "one"}}
    key, digest = archive.put_image(b"png")
    picture = make_archive_row("a", "MUG", path=key, sha256=digest, **same)
    archive.publish_day(NIGHT, [picture], ["a"])
    asked = "SELECT DISTINCT attempt_id FROM lineage"
    assert rows(opened(tmp_path), asked) == [(None,)]
    other = LocalObjectStore(tmp_path / "other")
    for row in (row for day in log.days() for row in log.read_day(day)):
        LearningLog(other).add(type(row)(**{**vars(row), "concept_sha256": "one"}))
    ImageArchive(other).put_image(b"png")
    ImageArchive(other).publish_day(NIGHT, [picture], ["a"])
    assert rows(opened(tmp_path / "other"), asked) == [("MUG@v1",)]


def test_scores_know_the_product_by_its_sku_alone(tmp_path: Path) -> None:
    archive = ImageArchive(LocalObjectStore(tmp_path))
    key, digest = archive.put_image(b"png")
    scores = {"found/00123": 1.0, "a/b/00123": 2.0, "half/way": 3.0, "min_fidelity": 4.0}
    row = make_archive_row("a", "00123", path=key, sha256=digest, scores=scores)
    archive.publish_day(NIGHT, [row], ["a"])
    found = rows(opened(tmp_path), "SELECT sku, score, value FROM scores ORDER BY value")
    assert found == [
        ("00123", "found", 1.0),
        ("00123", "a/b", 2.0),
        (None, "half/way", 3.0),
        (None, "min_fidelity", 4.0),
    ]


def test_a_picture_that_was_published_and_then_held_back_costs_once(tmp_path: Path) -> None:
    archive = ImageArchive(LocalObjectStore(tmp_path))
    key, digest = archive.put_image(b"png")
    row = make_archive_row(
        "a", "MUG", path=key, sha256=digest, render_seconds=3.0, verdict="failed", reason="blank"
    )
    archive.publish_day(NIGHT, [row], [], {"a": "held back: blank"})
    archive.quarantine.settle_day(NIGHT, [row], ["a"])
    night = "SELECT images, superseded, held_back, render_seconds FROM nights"
    assert rows(opened(tmp_path), night) == [(0, 1, 1, 3.0)]


def test_changes_tell_what_each_publication_did(tmp_path: Path) -> None:
    archive = ImageArchive(LocalObjectStore(tmp_path))
    pictures = {name: archive.put_image(name.encode()) for name in ("one", "two", "three")}
    a = make_archive_row("a", path=pictures["one"][0], sha256=pictures["one"][1])
    b = make_archive_row("b", path=pictures["two"][0], sha256=pictures["two"][1])
    again = make_archive_row(
        "b",
        path=pictures["three"][0],
        sha256=pictures["three"][1],
        created_utc=MOMENT + timedelta(hours=1),
    )
    archive.publish_day(NIGHT, [a], ["a"])
    archive.publish_day(NIGHT, [b], ["b"])
    archive.publish_day(NIGHT, [again], ["a", "b"])
    found = rows(opened(tmp_path), "SELECT image_id, change FROM changes ORDER BY changed_utc, 1")
    assert found == [
        ("a", "added"),
        ("a", "superseded"),
        ("b", "added"),
        ("a", "asked for again"),
        ("b", "made again"),
    ]


def test_files_that_are_named_are_not_looked_for(tmp_path: Path, settings: Settings) -> None:
    home = open_home(settings)
    fill_home(home.objects)
    files = home.archive.snapshot()[:1]
    connection = opened(tmp_path / "nowhere", night_files=files)
    assert rows(connection, "SELECT day::VARCHAR, images FROM nights") == [("2026-03-01", 3)]
    assert rows(connection, "FROM catalog") == []


@pytest.mark.parametrize("name", ["a*b", "what?", "it's [1]"])
def test_a_home_of_any_name(tmp_path: Path, name: str) -> None:
    shutil.copytree(GOLDEN / "schema_7", tmp_path / name)
    connection = opened(tmp_path / name)
    assert rows(connection, "SELECT count(*) FROM images") == [(1,)]
    assert rows(connection, "SELECT count(*) FROM history") == [(2,)]
