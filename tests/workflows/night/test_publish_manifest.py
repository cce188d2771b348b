from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.records import ManifestReport
from catalog_pipeline.stores.keys import STAGING_PREFIX
from catalog_pipeline.stores.objects import StoredObject
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.plan_night import (
    plan_night,
    read_plan,
)
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from tests.workflows.painted_night import (
    DAY,
    Studio,
)


def test_the_manifest_is_readable_by_pandas_with_skus_as_strings(studio: Studio) -> None:
    studio.learn("00123", "007")
    report = studio.render()
    published = publish_manifest(studio.home, DAY)
    assert (published.rows, published.added, published.superseded) == (report.rendered,) * 2 + (0,)
    frame = studio.manifest()
    assert frame["image_id"].is_unique
    assert {sku for skus in frame["skus"] for sku in skus} == {"00123", "007"}
    assert not frame["superseded"].any()
    assert studio.home.archive.staged(DAY) == []
    assert studio.home.archive.verify_day(DAY) == []


def test_publishing_again_changes_nothing(studio: Studio) -> None:
    studio.learn("a", "b")
    studio.render()
    assert publish_manifest(studio.home, DAY).changed
    before = studio.files()
    again = publish_manifest(studio.home, DAY)
    assert (again.changed, again.added, again.superseded) == (False, 0, 0)
    studio.render()
    assert not publish_manifest(studio.home, DAY).changed
    assert studio.files() == before


def test_what_is_staged_while_a_night_is_published_waits_for_the_next_call(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.learn("a", "b")
    studio.render()
    home = studio.home
    archive, publish_day = home.archive, home.archive.publish_day
    first = archive.staged(DAY)[0]
    newer = replace(first, created_utc=first.created_utc + timedelta(seconds=1), prompt="newer")

    def publish_slowly(*arguments: Any, **options: Any) -> ManifestReport:
        report = publish_day(*arguments, **options)
        archive.stage(DAY, "of-another-run", [newer])
        return report

    monkeypatch.setattr(archive, "publish_day", publish_slowly)
    publish_manifest(home, DAY)
    assert archive.staged(DAY) == [newer]
    monkeypatch.undo()
    assert publish_manifest(home, DAY).changed
    assert archive.staged(DAY) == []
    assert newer in archive.read_day(DAY)


def test_a_shard_is_read_once_and_all_are_cleared_together(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.learn("a", "b", "c")
    studio.render()
    home = studio.home
    objects = home.objects
    shards = objects.list(STAGING_PREFIX)
    asked: Counter[str] = Counter()
    read, delete_many = objects.read, objects.delete_many

    def counted(key: str) -> StoredObject:
        asked[key] += 1
        return read(key)

    def counted_all(keys: Sequence[str]) -> None:
        asked.update(keys)
        delete_many(keys)

    monkeypatch.setattr(objects, "read", counted)
    monkeypatch.setattr(objects, "delete_many", counted_all)
    publish_manifest(home, DAY)
    assert len(shards) > 1
    assert {key: asked[key] for key in shards} == dict.fromkeys(shards, 2)  # read, and cleared
    assert objects.list(STAGING_PREFIX) == []


def test_a_changed_plan_adds_rows_and_marks_the_old_ones(studio: Studio) -> None:
    studio.learn("a", "b")
    first = studio.render().rendered
    publish_manifest(studio.home, DAY)
    slower = studio.configured(steps=5)
    plan_night(open_home(slower.settings), DAY)
    second = slower.render().rendered
    report = publish_manifest(open_home(slower.settings), DAY)
    assert (report.added, report.superseded, report.rows) == (second, first, first + second)
    frame = studio.manifest()
    assert set(frame.loc[frame["superseded"], "steps"]) == {4}
    assert set(frame.loc[~frame["superseded"], "steps"]) == {5}

    plan_night(studio.home, DAY)  # the first settings again: its pictures still stand
    studio.painted()
    assert studio.render().rendered == 0
    publish_manifest(studio.home, DAY)
    frame = studio.manifest()
    assert set(frame.loc[~frame["superseded"], "steps"]) == {4}


def test_learning_one_more_product_renders_no_single_of_the_others(studio: Studio) -> None:
    singles = studio.configured(policies={"singles_per_sku": 2, "pairs": 0})
    singles.learn("a", "b")
    singles.render()
    singles.painted()
    singles.learn("c")
    plan_night(open_home(singles.settings), DAY)
    singles.render()
    jobs = read_plan(open_home(singles.settings), DAY).jobs
    assert set(singles.painted()) == {job.job_id for job in jobs if "c" in job.skus}


def test_learning_a_product_anew_renders_only_its_pictures(studio: Studio) -> None:
    studio.learn("a", "b", "c")
    studio.render()
    publish_manifest(studio.home, DAY)
    studio.painted()
    studio.learn("b", edition="better photos")
    plan = plan_night(studio.home, DAY)
    studio.render()
    assert set(studio.painted()) == {job.job_id for job in plan.jobs if "b" in job.skus}
    report = publish_manifest(studio.home, DAY)
    assert report.added == report.superseded == sum("b" in job.skus for job in plan.jobs)


def test_publishing_an_unplanned_day_is_a_clear_error(studio: Studio) -> None:
    with pytest.raises(GenerationError, match="2025-03-14 has no plan"):
        publish_manifest(studio.home, DAY)
