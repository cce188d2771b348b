"""Verification finds every kind of damage, and a night can be read as it was."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.errors import ConfigurationError, ObjectNotFoundError, StoreError
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.upkeep.destinations import write_file
from catalog_pipeline.workflows.upkeep.time_travel import (
    parse_as_of,
    read_manifest,
)
from catalog_pipeline.workflows.upkeep.verify import verify
from tests.workflows.painted_night import DAY, Studio

run = CliRunner().invoke


def publish(studio: Studio) -> None:
    plan_night(studio.home, DAY)
    studio.render()
    publish_manifest(studio.home, DAY)


@pytest.fixture
def studio(settings: Settings) -> Studio:
    """A night that was published twice: before and after a third product."""
    made = Studio(settings).configured(steps=2)
    made.learn("mug", "00123")
    publish(made)
    made.learn("vase")
    publish(made)
    return made


def test_a_whole_archive_has_no_problem(studio: Studio) -> None:
    report = verify(studio.home)
    assert report.problems == ()
    assert (report.days, report.states, report.versions) == ((DAY,), 2, 2)
    assert report.pictures == len(studio.home.archive.read_day(DAY))
    # Two records, a page each or shared, a concept and a memory part a product.
    assert report.objects >= 2 + 1 + 6
    assert verify(studio.home, DAY).problems == ()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("images/*.png", "is corrupted"),
        ("manifest/*/part-0.parquet", "not a readable Parquet file"),
        ("_versions/manifest/*/*.parquet", "is corrupted"),
        ("collections/default/versions/*.json", "is not an adapter version"),
        ("collections/default/pages/*.json", "is corrupted"),
        ("collections/default/parts/*.safetensors", "is corrupted"),
    ],
)
def test_every_rotten_object_is_named(studio: Studio, pattern: str, message: str) -> None:
    damaged = sorted(studio.settings.home.glob(pattern))[0]
    data = damaged.read_bytes()
    damaged.write_bytes(b"rotten" if damaged.suffix == ".json" else data[:-1] + b"~")
    named = DAY.isoformat() if "part-0" in pattern else damaged.name
    for day in (DAY, None):
        problems = verify(studio.home, day).problems
        assert any(named in problem and re.search(message, problem) for problem in problems)


@pytest.mark.parametrize(
    "pattern",
    [
        "images/*.png",
        "collections/default/versions/*.json",
        "collections/default/pages/*.json",
        "collections/default/parts/*.safetensors",
        "_versions/manifest/*/*.parquet",
    ],
)
def test_every_missing_object_is_named(studio: Studio, pattern: str) -> None:
    for path in studio.settings.home.glob(pattern):
        path.unlink()
    assert verify(studio.home, DAY).problems


def test_a_gap_in_the_chain_of_states_is_named(studio: Studio) -> None:
    first = studio.home.archive.history(DAY)[0].version
    (studio.settings.home / f"_versions/manifest/dt={DAY}/{first}.parquet").unlink()
    (problem,) = verify(studio.home, DAY).problems
    assert f"follows {first[:12]}, which is not stored" in problem


def test_a_night_that_was_never_published_is_an_error(studio: Studio) -> None:
    with pytest.raises(ObjectNotFoundError, match="2025-03-15 has no manifest"):
        verify(studio.home, DAY + timedelta(days=1))


def test_a_bucket_is_verified_too(
    make_settings: Callable[..., Settings], s3_settings: S3Settings
) -> None:
    settings = make_settings(archive={"s3": s3_settings.model_dump()})
    studio = Studio(settings).configured(steps=2)
    studio.learn("mug")
    publish(studio)
    assert verify(studio.home).problems == ()
    home = studio.home
    home.objects.put(home.archive.read_day(DAY)[0].path, b"rotten")
    assert any("is corrupted" in problem for problem in verify(studio.home).problems)
    (state,) = studio.home.archive.history(DAY)
    assert read_manifest(studio.home, DAY, state.version[:8]).state == state


def test_a_night_is_read_as_of_a_version_or_a_time(studio: Studio) -> None:
    settings = studio.settings
    first, second = open_home(settings).archive.history(DAY)
    then, instant = first.published_utc, timedelta(microseconds=1)
    assert (first.previous, second.previous) == ("", first.version)
    assert first.rows < second.rows
    assert read_manifest(open_home(settings), DAY).state == second
    for as_of in (
        first.version,
        first.version[:6],
        then.isoformat(),
        (second.published_utc - instant).isoformat(),
    ):
        view = read_manifest(open_home(settings), DAY, as_of)
        assert view.state == first, as_of
        assert len(view.rows) == first.rows
        assert {sku for row in view.rows for sku in row.skus} == {"mug", "00123"}
    assert read_manifest(open_home(settings), DAY, "2999-01-01").state == second
    with pytest.raises(ObjectNotFoundError, match="had no manifest at"):
        read_manifest(open_home(settings), DAY, (then - instant).isoformat())
    with pytest.raises(ObjectNotFoundError, match="has no version 'ffffffff'"):
        read_manifest(open_home(settings), DAY, "ffffffff")
    with pytest.raises(ObjectNotFoundError, match="has no manifest"):
        read_manifest(open_home(settings), DAY + timedelta(days=1))


def test_what_an_as_of_may_be() -> None:
    assert parse_as_of("0123abcd") == "0123abcd"
    assert parse_as_of("2026-03-01") == datetime(2026, 3, 1, 23, 59, 59, 999999, UTC)
    assert parse_as_of("2026-03-01T12:00") == datetime(2026, 3, 1, 12, 0, 0, 999999, UTC)
    tokyo = parse_as_of("2026-03-01T12:00:00.5+09:00")
    assert isinstance(tokyo, datetime)
    assert tokyo.astimezone(UTC) == datetime(2026, 3, 1, 3, 0, 0, 500000, UTC)
    assert parse_as_of("20260301") == parse_as_of("2026-03-01")
    assert parse_as_of("2026-03-01 12:00Z") == parse_as_of("20260301T1200")
    assert parse_as_of("20261399") == "20261399"  # no day, so the beginning of a version
    for wrong in ("yesterday", "2026-3-1", "2026-03-01T25:00", "9999-12-31T23:59", "0001-01-01"):
        with pytest.raises(ConfigurationError, match="neither a version nor a time"):
            parse_as_of(wrong)
    with pytest.raises(ConfigurationError, match="did you mean 2026-11-28"):
        parse_as_of("28.11.2026")


def test_a_state_is_written_as_the_very_file_it_was(studio: Studio, tmp_path: Path) -> None:
    first = studio.home.archive.history(DAY)[0]
    view = read_manifest(studio.home, DAY, first.version)
    target = tmp_path / "out" / "night.parquet"
    write_file(target, view.parquet)
    assert len(pd.read_parquet(target)) == first.rows
    stored = studio.settings.home / f"_versions/manifest/dt={DAY}/{first.version}.parquet"
    assert target.read_bytes() == stored.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["night.parquet"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write"):
        write_file(tmp_path / "file" / "night.parquet", view.parquet)


def commands(settings: Settings) -> Callable[..., Any]:
    options = ["--config", str(settings.config_dir), "--home", str(settings.home)]
    return lambda *arguments: run(app, [*arguments, *options])


def test_the_commands_print_write_and_fail(studio: Studio, tmp_path: Path) -> None:
    call = commands(studio.settings)
    listed = call("manifest", "--versions")
    assert listed.exit_code == 0, listed.output
    first, second = listed.stdout.splitlines()
    assert (first[0], second[0]) == (" ", "*")
    version = first.split()[0]
    (file,) = call("manifest", "--files").stdout.splitlines()
    assert Path(file).stem == second.split()[1]
    assert call("manifest", "--files", "--day", str(DAY)).stdout.splitlines() == [file]
    unpublished = call("manifest", "--files", "--day", "2020-01-01")
    assert (unpublished.exit_code, "publish the night first" in unpublished.output) == (1, True)
    for alone in ("--files", "--versions"):
        for other in (["--as-of", version], ["--out", str(tmp_path / "y.parquet")]):
            refused = call("manifest", alone, *other)
            assert (refused.exit_code, refused.stdout) == (2, "")
    assert "goes with --day alone" in call("manifest", "--files", "--versions").stderr
    shown = call("manifest", "--day", str(DAY), "--as-of", version)
    assert shown.stdout.splitlines()[0].startswith(f"{DAY} version {version}")
    assert "00123+mug" in shown.stdout or "mug+00123" in shown.stdout
    assert "vase" not in shown.stdout
    out = tmp_path / "x.parquet"
    assert call("manifest", "--as-of", version, "--out", str(out)).exit_code == 0
    assert len(pd.read_parquet(out)) == len(shown.stdout.splitlines()) - 2
    for stdout in ("-", "/dev/stdout"):  # not opened by name: that would cut off `>> file`
        piped = call("manifest", "--as-of", version, "--out", stdout)
        assert piped.stdout_bytes == out.read_bytes()
    good = call("verify")
    assert (good.exit_code, "all hashes are right" in good.stdout) == (0, True), good.output
    next(studio.settings.home.glob("images/*.png")).write_bytes(b"rotten")
    broken = call("verify", "--day", str(DAY))
    assert broken.exit_code == 1
    assert "broken   " in broken.stdout
    assert "1 broken of" in broken.stdout
    misread = call("manifest", "--as-of", "yesterday")
    assert (misread.exit_code, "'yesterday' is not a date" in misread.output) == (1, True)


def test_a_manifest_goes_through_a_link_and_down_a_pipe(studio: Studio, tmp_path: Path) -> None:
    call = commands(studio.settings)
    stored = next(studio.settings.home.glob(f"manifest/dt={DAY}/*.parquet")).read_bytes()
    (tmp_path / "real.parquet").write_bytes(b"old")
    (tmp_path / "link.parquet").symlink_to("real.parquet")
    assert call("manifest", "--out", str(tmp_path / "link.parquet")).exit_code == 0
    assert (tmp_path / "link.parquet").is_symlink()
    assert (tmp_path / "real.parquet").read_bytes() == stored
    inside = call("manifest", "--out", str(studio.settings.home / "manifest" / "x.parquet"))
    assert inside.exit_code == 1
    assert "among what the program stores itself" in inside.stderr
    options = ["--config", str(studio.settings.config_dir), "--home", str(studio.settings.home)]
    piped = subprocess.run(
        [sys.executable, "-m", "catalog_pipeline.cli", "manifest", "--out", "-", *options],
        capture_output=True,
        check=True,
    )
    assert piped.stdout == stored
    assert b"rows of" in piped.stderr


def test_an_empty_home_is_verified_and_has_no_manifest(settings: Settings) -> None:
    call = commands(settings)
    assert "0 nights" in call("verify").stdout
    result = call("manifest")
    assert result.exit_code == 1
    assert "no night has been published" in result.stderr
