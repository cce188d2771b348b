"""``doctor --repair``: dead traces go, the index follows the head, nothing precious is touched."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.records import IndexRow, SkuStatus, concept_part
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.keys import learning_key, manifest_key
from catalog_pipeline.stores.leases import LeaseRecord
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep.doctor import CheckResult, run_doctor
from catalog_pipeline.workflows.upkeep.doctor_dataset import strays
from catalog_pipeline.workflows.upkeep.missing_attempts import (
    missing_attempts,
    with_learned_version,
)
from catalog_pipeline.workflows.upkeep.versions import rollback
from tests.workflows.painted_night import Studio
from tests.workflows.upkeep.test_doctor import open_golden

GOLDEN = Path(__file__).resolve().parents[2] / "stores" / "golden" / "schema_2"
NIGHT = date(2026, 3, 1)
NOTHING = "nothing: no repair was needed"
NOTED = "learning log: noted 1 learned products that it did not know"


@pytest.fixture
def home(settings: Settings) -> Home:
    """A home with an index, a version, what was learned, and a night in it."""
    home = open_golden(settings, GOLDEN)
    for learned in missing_attempts(home):
        home.learning_log.add(learned)
        home.index.update(lambda rows, row=learned: [with_learned_version(r, row) for r in rows])
    return home


def repaired(settings: Settings) -> list[str]:
    found = run_doctor(open_home(settings), repair=True)
    assert [finding.level for finding in found].count("kept") >= 1
    return [finding.what for finding in found if finding.level == "repaired"]


def warnings(found: list[CheckResult]) -> list[str]:
    return [finding.what for finding in found if finding.level in ("warning", "error")]


def age(path: Path, hours: float = 2.0) -> None:
    os.utime(path, (time.time() - 3600 * hours,) * 2)


def states(home: Home, keys: list[str]) -> dict[str, str]:
    return {key: home.objects.read(key).version for key in keys}


def test_a_good_home_needs_no_repair(settings: Settings, home: Home) -> None:
    before = states(home, home.objects.list(""))
    assert repaired(settings) == [NOTHING]
    assert states(home, home.objects.list("")) == before


def test_what_was_learned_before_there_was_a_log_is_noted(settings: Settings, home: Home) -> None:
    (day,) = home.learning_log.days()
    (learned,) = home.learning_log.read_day(day)
    home.objects.delete(learning_key(day))
    home.index.update(lambda rows: [replace(r, learned_version="", learned_utc=None) for r in rows])
    assert repaired(settings) == [NOTED]
    assert home.learning_log.read_day(day) == [learned]
    served = home.adapters("mugs").current()
    assert served is not None
    assert learned.concept_sha256 == served.parts[concept_part(learned.sku)]
    assert (learned.version, learned.ended_utc) == (served.version, served.created_utc)
    row = next(row for row in home.index.read() if row.sku == learned.sku)
    assert (row.learned_version, row.learned_utc) == (learned.version, learned.ended_utc)
    assert repaired(settings) == [NOTHING]


def test_traces_of_dead_processes_go(settings: Settings, home: Home) -> None:
    store = home.adapters("mugs")
    home.objects.put(store.lease_object.key, LeaseRecord("process 1", "t", None).encode())
    (row,) = home.archive.read_day(NIGHT)
    home.archive.stage(NIGHT, "left", [row])
    home.archive.stage(NIGHT, "waiting", [replace(row, image_id="job-2")])
    home.objects.put("reports/doctor-0123", b"first")
    age(settings.home / "reports/doctor-0123")
    old, young = (settings.home / "manifest" / name for name in (".tmp-0", ".tmp-1"))
    old.write_bytes(b"")
    young.write_bytes(b"")
    age(old)
    did = repaired(settings)
    assert did == [
        "collection mugs: freed the lock of process 1, which is gone",
        "home: removed 1 temporary files",
        "home: removed 1 probes of earlier doctors",
        f"archive: cleared 1 published shards of {NIGHT}",
    ]
    assert store.lease_object.read() is None
    assert (old.exists(), young.exists()) == (False, True)
    assert [row.image_id for row in home.archive.staged(NIGHT)] == ["job-2"]
    assert repaired(settings) == [NOTHING]


def test_nights_of_an_earlier_release_are_written_anew(settings: Settings, home: Home) -> None:
    shutil.copytree(GOLDEN, settings.home, dirs_exist_ok=True)
    broken, newer = (NIGHT + timedelta(days=days) for days in (1, 2))
    home.objects.put(manifest_key(broken), b"PAR1 no manifest PAR1")
    table = pq.read_table(pa.BufferReader(home.objects.read(manifest_key(NIGHT)).data))
    sink = pa.BufferOutputStream()
    stamps = {**table.schema.metadata, b"schema_version": b"9"}
    pq.write_table(table.replace_schema_metadata(stamps), sink)
    home.objects.put(manifest_key(newer), sink.getvalue().to_pybytes())
    before = home.archive.read_day(NIGHT)
    said = [
        finding
        for finding in run_doctor(open_home(settings))
        if "earlier schema version" in finding.what
    ]
    assert [(finding.level, finding.what.partition(" are ")[0]) for finding in said] == [
        ("warning", f"archive: 1 nights such as {NIGHT}")
    ]
    assert "doctor --repair" in said[0].hint
    kept = {day: home.objects.read(manifest_key(day)).data for day in (broken, newer)}
    assert repaired(settings) == [
        f"archive: wrote {NIGHT} anew in the present schema, every value kept"
    ]
    assert home.archive.read_day(NIGHT) == before
    assert {day: home.objects.read(manifest_key(day)).data for day in kept} == kept
    assert repaired(settings) == [NOTHING]
    errors = [f.what for f in run_doctor(open_home(settings)) if f.level == "error"]
    assert any("schema version 9; this program reads up to 6: upgrade" in what for what in errors)


@pytest.mark.parametrize(
    "stray",
    ["manifest/_SUCCESS", "manifest/dt=2026-03-01/notes.json", "quarantine/dt=2026-03-01/.a.swp"],
)
def test_files_that_are_no_night_are_named_and_left(
    settings: Settings, home: Home, stray: str
) -> None:
    path = settings.home / stray
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    (found,) = (f for f in run_doctor(open_home(settings), repair=True) if "no night" in f.what)
    assert (found.level, stray in found.what) == ("warning", True)
    assert path.exists()


def test_temporary_files_that_were_copied_into_a_bucket_are_named(
    make_settings: Callable[..., Settings], s3_settings: S3Settings
) -> None:
    home = open_home(make_settings(archive={"s3": s3_settings.model_dump()}))
    for path in GOLDEN.rglob("part-0.parquet"):
        home.objects.put(path.relative_to(GOLDEN).as_posix(), path.read_bytes())
    assert strays(home.objects, "manifest") == []
    key = f"manifest/dt={NIGHT}/.tmp-0123"
    client = boto3.client("s3", endpoint_url=s3_settings.endpoint_url)
    client.put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{key}", Body=b"")
    assert strays(home.objects, "manifest") == [key]


def test_a_living_learner_keeps_its_lock(settings: Settings, home: Home) -> None:
    with home.adapters("mugs").lease(timeout_seconds=1):
        assert repaired(settings) == [NOTHING]
        assert home.adapters("mugs").lease_object.read() is not None


def test_a_lock_that_cannot_be_read_is_left_to_a_person(settings: Settings, home: Home) -> None:
    key = home.adapters("mugs").lease_object.key
    home.objects.put(key, b"rotten")
    found = run_doctor(open_home(settings), repair=True)
    assert any("is not a lease" in f.what for f in found if f.level == "kept")
    assert home.objects.read(key).data == b"rotten"


def test_an_expired_lease_in_a_bucket_is_freed(
    make_settings: Callable[..., Settings], s3_settings: S3Settings
) -> None:
    home = open_home(make_settings(archive={"s3": s3_settings.model_dump()}))
    lease = home.adapters("mugs").lease_object
    now = datetime.now(UTC)
    home.objects.put(lease.key, LeaseRecord("process 2", "t", now + timedelta(hours=1)).encode())
    assert lease.clear_stale() is None
    home.objects.put(lease.key, LeaseRecord("process 2", "t", now - timedelta(hours=1)).encode())
    dead = lease.clear_stale()
    assert dead is not None
    assert dead.holder == "process 2"
    assert lease.read() is None
    assert lease.clear_stale() is None


def test_index_rows_follow_the_served_version(settings: Settings, home: Home) -> None:
    studio = Studio(settings)
    first = studio.learn("a").version
    studio.learn("b")

    def put(rows: list[IndexRow]) -> list[IndexRow]:
        row = replace(rows[0], collection="default", learned_hash="h", content_hash="h")
        return [*rows, *(replace(row, sku=sku) for sku in ("a", "b", "never"))]

    home.index.update(put)
    assert {row.status for row in home.index.read() if row.sku in ("a", "b")} == {"learned"}
    found = warnings(run_doctor(open_home(settings)))
    assert "index: never is learned, but by the served version it is new" in found
    home.adapters("default").rollback(first)  # a rollback that died before the index
    assert repaired(settings) == [
        "index: b was learned, is failed as the served version says",
        "index: never was learned, is new as the served version says",
        NOTED,
    ]
    rows = {row.sku: row for row in home.index.read()}
    assert rows["a"].status is SkuStatus.LEARNED
    assert (rows["never"].status, rows["never"].learned_hash) == (SkuStatus.NEW, "")
    assert "does not know it" in rows["b"].reason
    assert repaired(settings) == [NOTHING]
    rollback(open_home(settings), home.adapters("default").history()[1].version)
    assert repaired(settings) == [NOTHING]


def test_a_row_that_changes_meanwhile_is_left_as_it_is(
    settings: Settings, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from catalog_pipeline.workflows.upkeep import doctor_repair

    (row, *_) = home.index.read()
    wrong = replace(row, collection="other")
    home.index.update(lambda rows: [wrong, *rows[1:]])
    found = doctor_repair.rows_out_of_step(home)
    assert [(old.sku, new.status) for old, new in found] == [(row.sku, SkuStatus.NEW)]
    monkeypatch.setattr(doctor_repair, "rows_out_of_step", lambda _: found)
    learned = replace(wrong, learned_hash="newer")
    home.index.update(lambda rows: [learned, *rows[1:]])
    assert repaired(settings) == [NOTHING]
    assert home.index.read()[0] == learned


@pytest.mark.parametrize(
    "pattern",
    ["collections/mugs/versions/*.json", "collections/mugs/pages/*.json", "images/*.png"],
)
def test_what_is_corrupted_is_named_and_left(settings: Settings, home: Home, pattern: str) -> None:
    paths = list(settings.home.glob(pattern))
    assert paths
    for path in paths:
        path.write_bytes(b"rotten")
    found = run_doctor(open_home(settings), repair=True)
    assert {path.read_bytes() for path in paths} == {b"rotten"}
    assert any(finding.level == "error" for finding in found)
    (kept,) = (finding for finding in found if finding.level == "kept")
    assert "restore them from a backup" in kept.hint


def test_left_over_pages_and_retired_concepts_are_found(settings: Settings, home: Home) -> None:
    store = home.adapters("mugs")
    home.objects.put("collections/mugs/pages/" + "0" * 64 + ".json", b"{}")
    home.index.update(lambda rows: [replace(r, status=SkuStatus.RETIRED) for r in rows])
    found = run_doctor(open_home(settings))
    assert any("1 pages belong to no version" in finding.what for finding in found)
    head = store.head()
    assert head is not None
    assert f"index: 00123 is retired, but version {head.version} knows it" in warnings(found)


def test_the_command_says_what_it_did_and_what_it_will_not_touch(
    settings: Settings, home: Home
) -> None:
    options = ["--config", str(settings.config_dir), "--home", str(settings.home)]
    key = home.adapters("mugs").lease_object.key
    home.objects.put(key, LeaseRecord("process 1", "t", None).encode())
    result = CliRunner().invoke(app, ["doctor", "--repair", *options])
    assert result.exit_code == 0, result.output
    assert "repaired collection mugs: freed the lock of process 1" in result.stdout
    assert "kept     corrupted and missing objects" in result.stdout
    assert not home.objects.exists(key)
