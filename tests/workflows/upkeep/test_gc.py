"""The clean-up of a whole home: what goes, what stays, and what it says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.night.night_figures import FIGURES_KEY
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.report_pages import stores_of_pages, write_page
from catalog_pipeline.workflows.upkeep import collect_garbage as workflow
from catalog_pipeline.workflows.upkeep.collect_garbage import GarbageReport, collect_garbage
from catalog_pipeline.workflows.upkeep.verify import verify
from tests.builders import make_archive_row
from tests.workflows.painted_night import DAY, Studio

run = CliRunner().invoke


@pytest.fixture(params=["local", "s3"])
def studio(request: pytest.FixtureRequest, make_settings: Callable[..., Settings]) -> Studio:
    """A published night of two products, and what killed runs left beside it."""
    archive: dict[str, object] = {}
    if request.param == "s3":
        s3: S3Settings = request.getfixturevalue("s3_settings")
        archive["s3"] = s3.model_dump()
    made = Studio(make_settings(archive=archive)).configured(steps=2)
    made.learn("mug", "00123")
    plan_night(made.home, DAY)
    made.render()
    publish_manifest(made.home, DAY)
    home = made.home
    store = home.adapters("default")
    store.write_part(b"of a run that was killed")
    store.write_staging("mug-0123.safetensors", b"half learned")
    home.archive.put_image(b"\x89PNG nobody names me")
    home.archive.stage(DAY, "left", home.archive.read_day(DAY)[:1])
    home.objects.put("base/0123/backdrops-4.safetensors", b"scenes")
    return made


def keys(studio: Studio) -> list[str]:
    found = studio.home.objects.list("")
    return [key for key in found if not key.endswith(("HEAD.json", "LEASE.json"))]


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=73)


def kinds(report: GarbageReport) -> list[str]:
    return sorted(item.kind for item in report.garbage)


LEFT_OVER = ["backdrops", "checkpoint", "image", "part", "staged rows"]


def test_a_dry_run_tells_and_the_real_one_does_that(studio: Studio) -> None:
    before = keys(studio)
    assert collect_garbage(studio.home).garbage == ()
    dry = collect_garbage(studio.home, dry_run=True, now=later())
    assert kinds(dry) == LEFT_OVER
    assert keys(studio) == before
    done = collect_garbage(studio.home, now=later())
    assert {item.key for item in done.garbage} == {item.key for item in dry.garbage}
    assert done.size_bytes == dry.size_bytes > 0
    assert set(before) - set(keys(studio)) == {item.key for item in done.garbage}
    assert done.skipped == ()
    assert verify(studio.home).problems == ()
    assert collect_garbage(studio.home, now=later()).garbage == ()


@pytest.mark.parametrize("studio", ["local"], indirect=True)
def test_a_version_that_a_picture_or_a_plan_names_stays(studio: Studio) -> None:
    keep_one = studio.settings.archive.model_copy(update={"keep_versions": 1})
    settings = studio.settings.model_copy(update={"archive": keep_one})
    named = open_home(settings).adapters("default").head()
    assert named is not None
    for edition in "abc":
        studio.learn("vase", edition=edition)
    store = open_home(settings).adapters("default")
    assert len(store.version_names()) == 4
    planned = store.head()
    assert planned is not None
    plan_night(open_home(settings), DAY + timedelta(days=1))
    studio.learn("vase", edition="d")
    report = collect_garbage(open_home(settings), now=later())
    # All were learned at one moment here, so the newest of all may be any of the five.
    assert kinds(report).count("version") in (1, 2)
    head = store.head()
    assert head is not None
    assert set(store.version_names()) >= {named.version, planned.version, head.version}
    assert verify(open_home(settings)).problems == ()
    open_home(settings).objects.put(f"plans/dt={DAY}/plan.json", b"rotten")
    studio.learn("vase", edition="e")
    careful = collect_garbage(open_home(settings), now=later())
    assert kinds(careful).count("version") == 0
    assert any("versions: all kept" in text for text in careful.skipped)


@pytest.mark.parametrize("studio", ["local"], indirect=True)
def test_a_collection_that_is_learning_is_left_alone(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "LEASE_WAIT_SECONDS", 0.0)
    with studio.home.adapters("default").lease(timeout_seconds=1):
        report = collect_garbage(studio.home, now=later())
    assert kinds(report) == ["backdrops", "image", "staged rows"]
    (skipped,) = report.skipped
    assert f"process {os.getpid()}" in skipped


@pytest.mark.parametrize("studio", ["local"], indirect=True)
def test_what_cannot_be_read_is_kept_and_named(studio: Studio) -> None:
    objects = studio.home.objects
    (record,) = objects.list("collections/default/versions/")
    objects.put(record, b"rotten")
    objects.put(f"manifest/dt={DAY}/part-0.parquet", b"rotten")
    before = keys(studio)
    report = collect_garbage(studio.home, now=later())
    assert kinds(report) == ["backdrops"]
    assert len(report.skipped) == 3
    assert set(before) - set(keys(studio)) == {"base/0123/backdrops-4.safetensors"}


@pytest.mark.parametrize("studio", ["local"], indirect=True)
def test_the_command_lists_removes_and_counts(studio: Studio) -> None:
    options = ["--config", str(studio.settings.config_dir), "--home", str(studio.settings.home)]
    nothing = run(app, ["gc", *options])
    assert nothing.exit_code == 0, nothing.output
    assert nothing.stdout.startswith("removed 0 objects, 0 B written before")
    dry = run(app, ["gc", "--dry-run", "--grace-hours", "0", *options])
    assert "would remove 5 objects" in dry.stdout
    assert "collections/default/staging/mug-0123.safetensors" in dry.stdout
    done = run(app, ["gc", "--grace-hours", "0", *options])
    assert "removed 5 objects" in done.stdout
    assert "1 image, 1 part" in done.stdout
    assert run(app, ["gc", "--grace-hours", "-1", *options]).exit_code == 2
    for endless in ("nan", "inf", "1e300"):
        refused = run(app, ["gc", "--grace-hours", endless, *options])
        assert refused.exit_code in (1, 2), refused.output
        assert isinstance(refused.exception, SystemExit)
    with pytest.raises(ConfigurationError, match="expected 0 to 876,000 hours"):
        collect_garbage(studio.home, grace_hours=-1)


def test_temporary_files_go_wherever_they_lie(settings: Settings) -> None:
    home = open_home(settings)
    home.objects.put("manifest/k", b"whole")
    left = [settings.home / name for name in (".tmp/.tmp-0", "manifest/.tmp-1")]
    for path in left:
        path.write_bytes(b"half")
    assert collect_garbage(home, grace_hours=0).garbage == ()  # its writer may be at work
    for path in left:
        os.utime(path, (time.time() - 7200,) * 2)
    assert collect_garbage(home).garbage == ()
    for dry_run in (True, False):
        report = collect_garbage(home, now=later(), dry_run=dry_run)
        assert [(item.kind, item.key) for item in report.garbage] == [
            ("temporary file", ".tmp/.tmp-0"),
            ("temporary file", "manifest/.tmp-1"),
        ]
        assert [path.exists() for path in left] == [dry_run] * 2
    assert home.objects.list("") == ["manifest/k"]


def test_an_empty_home_has_no_garbage(settings: Settings) -> None:
    assert collect_garbage(open_home(settings), now=later()).garbage == ()


@pytest.fixture(params=["local", "s3"])
def old_home(request: pytest.FixtureRequest, make_settings: Callable[..., Settings]) -> Home:
    """A refused candidate, a night of which every picture was held back, and its pages."""
    archive: dict[str, object] = {}
    if request.param == "s3":
        archive["s3"] = request.getfixturevalue("s3_settings").model_dump()
    retention = {"retention": {"quarantine_days": 30, "report_days": 60}}
    home = open_home(make_settings(archive=archive, governance=retention))
    for name in ("concept.safetensors", "pictures.png", "report.json"):
        home.objects.put(f"collections/default/quarantine/mug-0123456789abcdef/{name}", b"x")
    path, sha256 = home.archive.put_image(b"\x89PNG held back")
    row = make_archive_row("a", day=DAY, path=path, sha256=sha256, verdict="failed")
    home.archive.quarantine.settle_day(DAY, [row], ["a"])
    write_page(home, f"gallery-{DAY}.html", b"<html>photos</html>")
    home.objects.put(FIGURES_KEY, b"[]")
    return home


def test_what_is_kept_for_a_time_goes_after_it(old_home: Home) -> None:
    def after(days: float, dry_run: bool = False) -> list[str]:
        now = datetime.now(UTC) + timedelta(days=days)
        return kinds(collect_garbage(old_home, now=now, dry_run=dry_run))

    in_quarantine = ["held back rows", "image", *["refused candidate"] * 3]
    pages = stores_of_pages(old_home)
    assert after(29) == []
    assert after(31, dry_run=True) == in_quarantine
    assert after(31) == in_quarantine
    assert after(59) == []
    assert after(61, dry_run=True) == ["report"] * len(pages)
    assert after(61) == ["report"] * len(pages)
    for objects in pages:
        assert not objects.exists(f"reports/gallery-{DAY}.html")
    assert old_home.objects.exists(FIGURES_KEY)
    assert after(9999) == []
    assert verify(old_home).problems == ()


@pytest.mark.parametrize("old_home", ["local"], indirect=True)
def test_the_grace_counts_where_it_is_longer(old_home: Home) -> None:
    now = datetime.now(UTC) + timedelta(days=61)
    assert collect_garbage(old_home, grace_hours=24 * 62, now=now).garbage == ()
