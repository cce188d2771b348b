"""Counting an archive: wherever it lies, whatever its folder is called, and nothing left over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.keys import manifest_key
from catalog_pipeline.stores.schemas import decode_manifest
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.archive_summary import query_archive, repeated_image_ids
from tests.builders import NIGHT, make_archive_row

REPOSITORY = Path(__file__).resolve().parents[3]
GOLDEN = REPOSITORY / "tests/stores/golden"


@pytest.fixture
def bucket(s3_settings: S3Settings, make_settings: Callable[..., Settings]) -> Home:
    return Home(make_settings(archive={"s3": s3_settings.model_dump()}))


def publish(home: Home) -> None:
    key, digest = home.archive.put_image(b"\x89PNG")
    row = make_archive_row("a", "00123", "マグ", path=key, sha256=digest)
    home.archive.publish_day(NIGHT, [row], ["a"])


def test_a_bucket_is_counted_as_a_folder_is(
    bucket: Home, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "it's [1]"))
    Path(tempfile.gettempdir()).mkdir()
    for home in (Home(settings), bucket):
        assert query_archive(home).per_day == []
        publish(home)
        assert query_archive(home).per_sku == [
            {"sku": "00123", "rows": 1, "nights": 1},
            {"sku": "マグ", "rows": 1, "nights": 1},
        ]
        assert repeated_image_ids(home) == []
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


@pytest.mark.parametrize("name", ["it's", "a[1]", "100%?", "*"])
def test_a_folder_may_have_any_name(settings: Settings, tmp_path: Path, name: str) -> None:
    home = Home(settings.model_copy(update={"home": tmp_path / name / "home"}))
    publish(home)
    assert [night["rows"] for night in query_archive(home).per_day] == [1]


def test_pictures_are_counted_by_mode_over_nights_of_every_release(settings: Settings) -> None:
    home = Home(settings)
    for place, schema in enumerate(("schema_1", "schema_3")):
        folder = settings.home / f"manifest/dt={NIGHT + timedelta(days=place)}"
        folder.mkdir(parents=True)
        # Of two states the earlier one has no superseded row.
        states = sorted((GOLDEN / schema).glob("_versions/manifest/*/*.parquet"))
        for state in states:
            rows, _ = decode_manifest(state.read_bytes(), state.name)
            if not any(row.superseded for row in rows):
                shutil.copy(state, folder / "part-0.parquet")
    assert query_archive(home).per_mode == [{"mode": "learned", "rows": 2}]
    path, digest = home.archive.put_image(b"\x89PNG")
    night = NIGHT + timedelta(days=2)
    made = {"path": path, "sha256": digest, "day": night}
    modes = {"a": "exact", "b": "exact", "c": "anchored", "d": "exact"}
    rows = [make_archive_row(name, mode=mode, **made) for name, mode in modes.items()]
    home.archive.publish_day(night, rows, ["a", "b", "c"])
    assert query_archive(home).per_mode == [
        {"mode": "anchored", "rows": 1},
        {"mode": "exact", "rows": 2},
        {"mode": "learned", "rows": 2},
    ]


def test_a_damaged_manifest_in_a_bucket_is_named(bucket: Home) -> None:
    publish(bucket)
    bucket.objects.put(manifest_key(NIGHT), b"PAR1 no more")
    with pytest.raises(
        IntegrityError, match=rf"^[^\n]*dt={NIGHT}[^\n]*`catalog-pipeline verify`[^\n]*$"
    ):
        query_archive(bucket)


def test_a_count_leaves_no_thread_that_could_abort_the_process(bucket: Home) -> None:
    publish(bucket)
    program = f"""
import os, duckdb
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.archive_summary import query_archive

before = sorted(os.listdir("/proc/self/task"))
home = Home(Settings.model_validate_json({bucket.settings.model_dump_json()!r}))
assert query_archive(home).per_sku
import pyarrow
after = sorted(os.listdir("/proc/self/task"))
names = [open(f"/proc/self/task/{{thread}}/comm").read() for thread in set(after) - set(before)]
assert set(names) <= {{"jemalloc_bg_thd\\n"}}, names
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
