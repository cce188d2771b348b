"""What does not pass is kept, marked, not published, and nobody's garbage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.picture_quarantine import PictureQuarantine
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.gallery import write_gallery
from catalog_pipeline.workflows.night.picture_gate import attempt_seed, rank, why_failed
from catalog_pipeline.workflows.night.plan_night import plan_night, read_plan
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from catalog_pipeline.workflows.upkeep.status import collect_status
from catalog_pipeline.workflows.upkeep.verify import verify
from tests.workflows.hard_night import (
    ALWAYS,
    ONCE,
    hard_jobs,
    hard_studio,
    held,
    published,
)
from tests.workflows.painted_night import DAY, Studio


@pytest.fixture
def studio(make_settings: Callable[..., Settings]) -> Studio:
    return hard_studio(make_settings)


def test_what_still_fails_is_kept_marked_and_not_published(night: Studio) -> None:
    hard, archive = hard_jobs(night), night.home.archive
    rows = held(night)
    assert set(rows) == set(hard)
    assert {(row.verdict, row.attempts, row.superseded) for row in rows.values()} == {
        ("failed", 3, False)
    }
    assert all(archive.read_image(row.path) for row in rows.values())
    assert set(published(night)).isdisjoint(hard)
    assert set(published(night)) | set(hard) == {
        job.job_id for job in read_plan(night.home, DAY).jobs
    }
    assert archive.staged(DAY) == []
    frame = pd.read_parquet(night.settings.home / f"quarantine/dt={DAY}/part-0.parquet")
    assert set(frame["image_id"]) == set(hard)
    assert why_failed(next(iter(rows.values()))) == "not found: a"


def test_a_rerun_leaves_what_is_held_back_alone(night: Studio) -> None:
    before = night.files()
    report = night.render()
    assert (report.rendered, night.painted()) == (0, [])
    assert set(report.quarantined) == set(hard_jobs(night))
    assert publish_manifest(night.home, DAY).quarantined == len(report.quarantined)
    assert night.files() == before


def test_what_passes_when_asked_for_again_leaves_quarantine(night: Studio) -> None:
    hard = hard_jobs(night)
    report = night.render(retry_quarantined=True)
    assert set(night.painted()) == set(hard)
    assert report.quarantined == ()
    publish_manifest(night.home, DAY)
    assert held(night) == {}
    rows = published(night)
    for image_id, job in hard.items():
        row = rows[image_id]
        assert (row.attempts, row.verdict, row.seed) == (4, "passed", attempt_seed(job, 4))
        assert row.scores["found_first/a"] == 0
    assert night.home.archive.verify_day(DAY) == []
    before = night.files()
    night.render(retry_quarantined=True)
    assert night.painted() == []
    assert night.files() == before


def test_what_fails_again_keeps_its_best_picture_and_counts_on(night: Studio) -> None:
    before = held(night)
    night.render(retry_quarantined=True, forgets=ALWAYS)
    publish_manifest(night.home, DAY)
    after = held(night)
    assert set(after) == set(before)
    for image_id, row in after.items():
        assert (row.attempts, row.verdict) == (6, "failed")
        assert rank(row.scores) >= rank(before[image_id].scores)
    assert night.home.archive.verify_day(DAY) == []


def test_garbage_collection_verification_and_doctor_know_quarantine(night: Studio) -> None:
    later = datetime.now(UTC) + timedelta(hours=73)
    report = collect_garbage(night.home, now=later)
    assert [item for item in report.garbage if item.kind == "image"] == []
    assert verify(night.home).problems == ()
    words = " ".join(finding.what for finding in run_doctor(night.home))
    assert f"{len(held(night))} pictures in quarantine" in words
    assert "pictures in no manifest" not in words
    assert collect_status(night.home)["nights"][0]["quarantined"] == len(held(night))
    lost = next(iter(held(night).values()))
    (night.settings.home / lost.path).write_bytes(b"rotten")
    assert any(lost.sha256[:12] in p or lost.path in p for p in verify(night.home).problems)
    assert any(f.level == "error" for f in run_doctor(night.home) if "archive" in f.what)
    (night.settings.home / f"quarantine/dt={DAY}/part-0.parquet").unlink()
    gone = collect_garbage(night.home, now=later)
    assert len([item for item in gone.garbage if item.kind == "image"]) == len(hard_jobs(night))


def test_a_lost_picture_in_quarantine_is_made_again(night: Studio) -> None:
    row = next(iter(held(night).values()))
    (night.settings.home / row.path).unlink()
    night.render()
    assert set(night.painted()) == {row.image_id}
    publish_manifest(night.home, DAY)
    assert row.image_id in published(night)
    assert row.image_id not in held(night)


def test_a_lost_picture_is_made_again_by_the_attempt_that_made_it(studio: Studio) -> None:
    hard = hard_jobs(studio)
    studio.render(forgets=ONCE)
    publish_manifest(studio.home, DAY)
    manifest = studio.manifest()
    row = published(studio)[next(iter(hard))]
    (studio.settings.home / row.path).unlink()
    studio.painted()
    studio.render()
    (painter,) = studio.painters
    assert (painter.batches, painter.strengths) == ([[row.image_id]], [1.5])
    assert not publish_manifest(studio.home, DAY).changed
    pd.testing.assert_frame_equal(studio.manifest(), manifest)
    assert studio.home.archive.verify_day(DAY) == []


def test_a_published_picture_that_is_lost_and_fails_now_is_superseded(studio: Studio) -> None:
    hard = hard_jobs(studio)
    studio.configured(quality={"gate": False}).render(forgets=ALWAYS)
    publish_manifest(studio.home, DAY)
    lost = published(studio)[next(iter(hard))]
    (studio.settings.home / lost.path).unlink()
    studio.render(forgets=ALWAYS)
    for _ in range(2):
        publish_manifest(studio.home, DAY)
        row = published(studio)[lost.image_id]
        assert (row.superseded, row.verdict) == (True, "failed")
        assert set(held(studio)) == {lost.image_id}
        assert studio.home.archive.verify_day(DAY) == []


def test_a_night_of_nothing_but_failures_is_whole(studio: Studio) -> None:
    pair = studio.configured(policies={"singles_per_sku": 0, "pairs": 1})
    plan_night(open_home(pair.settings), DAY)
    skus = read_plan(open_home(pair.settings), DAY).jobs[0].skus
    pair.render(forgets=dict.fromkeys(skus, 99))
    assert publish_manifest(open_home(pair.settings), DAY).quarantined == 1
    assert open_home(pair.settings).archive.verify_day(DAY) == []
    assert verify(open_home(pair.settings), DAY).problems == ()
    assert "held back" in write_gallery(open_home(pair.settings), DAY).read_text("utf-8")


def test_a_changed_plan_marks_what_it_no_longer_asks_for(night: Studio) -> None:
    slower = night.configured(steps=5)
    plan_night(open_home(slower.settings), DAY)
    slower.render()
    publish_manifest(open_home(slower.settings), DAY)
    assert {row.superseded for row in held(night).values()} == {True}
    assert publish_manifest(open_home(slower.settings), DAY).quarantined == 0


def test_of_two_rows_of_a_picture_in_quarantine_the_later_counts(night: Studio) -> None:
    quarantine = PictureQuarantine(night.home.objects)
    rows = held(night)
    row = next(iter(rows.values()))
    earlier = row.created_utc - timedelta(seconds=1)
    stale = replace(row, verdict="passed", created_utc=earlier)
    assert quarantine.settle_day(DAY, [stale], set(rows)) == list(rows.values())
    newer = replace(stale, created_utc=row.created_utc + timedelta(seconds=1))
    assert row not in quarantine.settle_day(DAY, [newer], set(rows))
    assert quarantine.days() == [DAY]
