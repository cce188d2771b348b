from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from catalog_pipeline.cli.progress import LineProgress
from catalog_pipeline.errors import ConfigurationError, GenerationError, IntegrityError, StoreError
from catalog_pipeline.generation.plan_summary import describe_plan
from catalog_pipeline.records import (
    AdapterVersion,
    Concept,
    Features,
    Pixels,
    RenderJob,
    SkuStatus,
)
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.columns import MANIFEST_SCHEMA_VERSION
from catalog_pipeline.stores.versions import version_hash
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.night.night_inputs import (
    ASSUMED_SECONDS_PER_IMAGE,
    REPORTS_READ,
    measured_seconds_per_image,
)
from catalog_pipeline.workflows.night.plan_night import (
    PLAN_SCHEMA_VERSION,
    plan_key,
    plan_night,
    read_plan,
    report_key,
)
from catalog_pipeline.workflows.night.preview_night import preview_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.night.render_night import render_night
from tests.builders import make_index_row, make_render_job, promote
from tests.workflows.painted_night import (
    DAY,
    SIDE,
    ColourEncoder,
    ColourJudge,
    Painter,
    PowerCutError,
    Studio,
)

RETIRED = make_index_row("a", status=SkuStatus.RETIRED)


# --- planning ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"negative_prompt": "blurry, " * 60}, "the negative_prompt comes to"),
        ({"scenes": [{"name": "far", "text": "very " * 60}]}, "the text of scene 'far' comes to"),
        (
            {"scenes": [{"name": "far", "text": "far", "negative_prompt": "🏖️" * 20}]},
            "the negative_prompt of scene 'far' comes to",
        ),
    ],
)
def test_a_text_that_the_base_cannot_read_whole_is_named_before_a_plan_is_written(
    studio: Studio, changed: dict[str, Any], named: str
) -> None:
    studio.learn("mug")
    before = studio.files()
    with pytest.raises(ConfigurationError, match=rf"{named} \d+ tokens, .* reads 48; shorten it"):
        plan_night(studio.configured(**changed).home, DAY)
    assert studio.files() == before


def test_a_product_whose_prompts_would_be_cut_is_left_out_and_said(studio: Studio) -> None:
    """Learned when prompts were cut; from now on it could not be learned."""
    studio.learn("mug", "vase")
    version = studio.home.adapters("default").current()
    assert version is not None
    cut = replace(version.concepts[0], class_noun="zyxwvutsrqponm " * 5)
    draft = replace(version, concepts=(cut, *version.concepts[1:]), parent=version.version)
    promote(studio.home.adapters("default"), replace(draft, version=version_hash(draft)))
    preview = preview_night(studio.home, DAY)
    assert preview.unseen == (cut.sku,)
    assert {sku for job in preview.plan.jobs for sku in job.skus} == {"mug", "vase"} - {cut.sku}
    assert any("left out" in n and cut.sku in n for n in describe_plan(preview.plan)["notes"])


def test_a_second_planning_of_the_night_writes_nothing(studio: Studio) -> None:
    studio.learn("00123", "mug")
    plan = plan_night(studio.home, DAY)
    before = studio.files()
    assert plan_night(studio.home, DAY) == plan == read_plan(studio.home, DAY)
    assert plan_night(studio.configured(batch_size=7).home, DAY) == plan
    assert studio.files() == before
    assert plan_key(DAY) in before


def test_new_versions_settings_and_retirements_supersede_the_plan(studio: Studio) -> None:
    studio.learn("a", "b")
    plans = [plan_night(studio.home, DAY)]
    plans.append(plan_night(studio.configured(steps=5).home, DAY))
    plans.append(plan_night(studio.home, DAY))
    assert plans[2] == plans[0] != plans[1]
    studio.learn("c")
    plans.append(plan_night(studio.home, DAY))
    assert {sku for job in plans[3].jobs for sku in job.skus} == {"a", "b", "c"}
    studio.home.index.update(lambda _: [RETIRED])
    plans.append(plan_night(studio.home, DAY))
    assert {sku for job in plans[4].jobs for sku in job.skus} == {"b", "c"}
    assert read_plan(studio.home, DAY) == plans[4]


def test_every_collection_is_planned_under_one_budget(studio: Studio) -> None:
    studio.learn("a", "b", "c", collection="garden")
    studio.learn("x", collection="kitchen")
    night = studio.configured(policies={"singles_per_sku": 3, "pairs": 0}, budget={"max_images": 8})
    plan = plan_night(night.home, DAY)
    assert [job.collection for job in plan.jobs].count("garden") == 6
    assert [job.collection for job in plan.jobs].count("kitchen") == 2
    assert "8 of 12 pictures planned" in plan.notes[-1]


def test_nothing_learned_is_a_clear_error(studio: Studio) -> None:
    with pytest.raises(GenerationError, match="learn at least one SKU"):
        plan_night(studio.home, DAY)
    with pytest.raises(GenerationError, match="learn at least one SKU"):
        studio.render()
    studio.learn("a")
    studio.home.index.update(lambda _: [RETIRED])
    with pytest.raises(GenerationError, match="the folders of all of them are gone"):
        plan_night(studio.home, DAY)


def test_minutes_are_counted_at_the_speed_of_the_latest_like_night(studio: Studio) -> None:
    studio.learn("a", "b", "c", "d")
    budget = {"max_images": None, "max_minutes": 0.1}
    night = studio.configured(policies={"singles_per_sku": 9, "pairs": 0}, budget=budget)
    assumed = plan_night(night.home, DAY)
    assert len(assumed.jobs) == int(6.0 / ASSUMED_SECONDS_PER_IMAGE)
    studio.render(DAY - timedelta(days=1))
    key = report_key(DAY - timedelta(days=1))
    objects = studio.home.objects
    report = json.loads(objects.read(key).data)
    assert list(report["seconds_per_image"]) == ["learned"]
    assert report["seconds_per_image"]["learned"] > 0
    assert report["failures"] == {}
    objects.put(key, json.dumps({**report, "seconds_per_image": {"learned": 1.0}}).encode())
    unlike = {**report, "seconds_per_image": {"learned": 0.001}, "steps": 50}
    objects.put(report_key(DAY), json.dumps(unlike).encode())
    assert plan_night(night.home, DAY) == assumed  # a plan is not made anew for speed
    assert len(plan_night(night.home, DAY + timedelta(days=1)).jobs) == 6


def test_each_mode_counts_at_its_own_measured_speed(studio: Studio) -> None:
    """An earlier release's one number is of learned pictures; the latest of a mode counts."""
    settings, objects = studio.settings.generation, studio.home.objects
    like = {"steps": settings.steps, "width": settings.width, "height": settings.height}
    for back, seconds in ((1, {"exact": 4.0}), (2, {"exact": 9.0, "anchored": 7.0}), (3, 1.0)):
        report = {**like, "seconds_per_image": seconds}
        objects.put(report_key(DAY - timedelta(days=back)), json.dumps(report).encode())

    def seconds_of(*modes: str) -> float | None:
        jobs = [make_render_job("a", mode=mode) for mode in modes]
        return measured_seconds_per_image(studio.home, settings, jobs)

    assert seconds_of("exact") == 4.0
    assert seconds_of("learned", "exact", "exact", "anchored") == 4.0
    objects.delete(report_key(DAY - timedelta(days=3)))
    assert seconds_of("learned", "exact") == (ASSUMED_SECONDS_PER_IMAGE + 4.0) / 2
    assert seconds_of("learned") is None
    assert seconds_of() is None
    objects.put(report_key(DAY), json.dumps({**like, "seconds_per_image": "fast"}).encode())
    with pytest.raises(IntegrityError, match="not a rendering report"):
        seconds_of("learned")
    for later in range(REPORTS_READ):  # a year of reports is not read for a rare mode
        key = report_key(DAY + timedelta(days=later))
        objects.put(key, json.dumps({**like, "steps": 999}).encode())
    assert seconds_of("exact") is None


def test_an_altered_plan_is_refused(studio: Studio) -> None:
    studio.learn("a")
    plan_night(studio.home, DAY)
    objects = studio.home.objects
    good = objects.read(plan_key(DAY)).data
    objects.put(plan_key(DAY + timedelta(days=1)), good)
    with pytest.raises(IntegrityError, match="is the plan of 2025-03-14, expected 2025-03-15"):
        read_plan(studio.home, DAY + timedelta(days=1))
    objects.put(plan_key(DAY), good[: len(good) // 2])
    with pytest.raises(IntegrityError, match="is not a plan"):
        read_plan(studio.home, DAY)
    newer = good.replace(
        b'"schema_version": 3', b'"schema_version": %d' % (PLAN_SCHEMA_VERSION + 1)
    )
    objects.put(plan_key(DAY), newer)
    with pytest.raises(StoreError, match="upgrade catalog-pipeline"):
        plan_night(studio.home, DAY)


# --- rendering ---------------------------------------------------------------


def test_a_night_is_rendered_scored_and_staged(studio: Studio) -> None:
    version = studio.learn("00123", "mug", "vase")
    report = studio.render()  # plans the night itself
    plan = read_plan(studio.home, DAY)
    assert report.rendered == len(plan.jobs) == len(report.rows) == 10
    assert (report.reused, report.failed) == (0, ())
    jobs = {job.job_id: job for job in plan.jobs}
    archive = studio.home.archive
    for row in report.rows:
        job = jobs[row.image_id]
        with Image.open(io.BytesIO(archive.read_image(row.path))) as picture:
            assert picture.size == (job.width, job.height)
            assert job.width == SIDE * (2 + len(job.skus) - 1) // 2
            assert set(picture.info) == {"XML:com.adobe.xmp", "xmp"}  # one chunk, two names
        assert (row.prompt, row.skus, row.seed, row.layout) == (
            (job.prompt, job.skus, job.seed, job.layout)
        )
        assert (row.adapter_version, row.base_model_hash) == (version.version, "base")
        kinds = ("fidelity", "found", "found_first")
        expected = {f"{kind}/{sku}" for kind in kinds for sku in job.skus}
        assert set(row.scores) == {"min_fidelity", "reflection", *expected}
        assert (row.attempts, row.verdict, row.schema_version) == (
            1,
            "passed",
            MANIFEST_SCHEMA_VERSION,
        )
        assert row.scores["min_fidelity"] > 0.8
    assert all(len(batch) <= 2 for painter in studio.painters for batch in painter.batches)
    assert len(report.contact_sheet_png) < 100_000
    with Image.open(io.BytesIO(report.contact_sheet_png)) as sheet:
        assert sheet.size[0] > 6 * 16


def test_products_that_changed_places_score_low(studio: Studio) -> None:
    studio.learn("00123", "mug")
    swapped = studio.configured(policies={"singles_per_sku": 0, "pairs": 1})

    class Swapping(Painter):
        def _paint(self, job: RenderJob, concepts: Mapping[str, Concept]) -> Pixels:
            return np.ascontiguousarray(super()._paint(job, concepts)[:, ::-1])

    (row,) = render_night(
        open_home(swapped.settings),
        DAY,
        open_sampler=lambda home, drawers: Swapping(drawers),
        encoder=ColourEncoder(),
        open_judge=ColourJudge,
    ).rows
    assert row.scores["min_fidelity"] < 0.5
    assert (row.verdict, row.attempts) == ("failed", 3)


def test_a_resumed_night_counts_the_pictures_that_are_there(studio: Studio) -> None:
    studio.learn("00123", "mug")
    total = len(plan_night(studio.home, DAY).jobs)
    with pytest.raises(PowerCutError):
        studio.render(power_cut_at=1)
    there = len(studio.home.archive.staged(DAY))
    assert 0 < there < total
    lines = io.StringIO()
    studio.render(progress=LineProgress(lines))
    first, last = lines.getvalue().splitlines()
    assert first == f"render {DAY}: resumed at {there} of {total}"
    assert last.startswith(f"render {DAY}: {total}/{total} in ")


def test_a_power_cut_costs_the_batch_in_work_only(studio: Studio) -> None:
    studio.learn("a", "b", "c")
    with pytest.raises(PowerCutError):
        studio.render(power_cut_at=2)
    first = studio.painted()
    assert len(first) == 4
    with pytest.raises(PowerCutError):
        studio.render(power_cut_at=1)
    second = studio.painted()
    report = studio.render()
    third = studio.painted()
    jobs = [job.job_id for job in read_plan(studio.home, DAY).jobs]
    assert sorted(first + second + third) == sorted(jobs)
    assert (report.reused, report.rendered) == (len(first + second), len(third))


def test_a_finished_night_opens_no_model_and_writes_nothing(studio: Studio) -> None:
    studio.learn("a", "b")
    staged = studio.render()
    before = studio.files()
    again = studio.render()
    assert (again.rendered, again.reused, again.rows) == (0, staged.rendered, staged.rows)
    assert again.contact_sheet_png == staged.contact_sheet_png
    publish_manifest(studio.home, DAY)
    published = studio.files()
    assert studio.render().rows == ()
    assert studio.files() == published
    assert len(studio.painters) == 1
    assert before.keys() >= {path for path in published if path.startswith("images/")}


def test_the_same_night_has_the_same_pictures_in_any_home(
    studio: Studio, make_settings: Callable[..., Settings]
) -> None:
    studio.learn("a", "b")
    other = Studio(studio.settings.model_copy(update={"home": studio.settings.home / "other"}))
    other.learn("a", "b")
    one, two = (
        {row.image_id: row.sha256 for row in studio_.render().rows} for studio_ in (other, studio)
    )
    assert one == two
    assert len(one) > 0


def test_a_failing_batch_is_tried_one_by_one(studio: Studio) -> None:
    studio.learn("a", "b")
    plan = plan_night(studio.home, DAY)
    bad = plan.jobs[1].job_id
    report = studio.render(refuses=frozenset({bad}))
    assert report.failed == (bad,)
    assert report.rendered == len(plan.jobs) - 1
    measured = json.loads(studio.home.objects.read(report_key(DAY)).data)
    assert measured["failures"] == {bad: "RuntimeError: a NaN in the latents"}
    studio.painted()
    mended = studio.render()
    assert studio.painted() == [bad]
    assert (mended.rendered, mended.failed) == (1, ())


def test_a_batch_too_large_for_memory_is_rendered_singly(studio: Studio) -> None:
    studio.learn("a", "b")
    report = studio.render(largest_batch=1)
    assert report.failed == ()
    assert report.rendered == len(read_plan(studio.home, DAY).jobs)


def test_a_night_that_fails_throughout_reports_every_job(studio: Studio) -> None:
    studio.learn("a")
    plan = plan_night(studio.home, DAY)
    everything = frozenset(job.job_id for job in plan.jobs)
    report = studio.render(refuses=everything)
    assert set(report.failed) == everything
    assert (report.rows, report.contact_sheet_png) == ((), b"")


def test_pictures_that_are_lost_or_damaged_are_rendered_again(studio: Studio) -> None:
    studio.learn("a", "b")
    rows = studio.render().rows
    publish_manifest(studio.home, DAY)
    manifest = studio.manifest()
    studio.painted()
    lost, damaged = rows[0], rows[1]
    (studio.settings.home / lost.path).unlink()
    (studio.settings.home / damaged.path).write_bytes(b"half a file")
    studio.render()
    assert set(studio.painted()) == {lost.image_id, damaged.image_id}
    assert not publish_manifest(studio.home, DAY).changed
    assert studio.home.archive.verify_day(DAY) == []
    pd.testing.assert_frame_equal(studio.manifest(), manifest)


def test_a_night_is_rendered_by_the_versions_it_was_planned_for(studio: Studio) -> None:
    planned = studio.learn("a", "b")
    studio.learn("x", collection="kitchen")
    plan_night(studio.home, DAY)
    studio.learn("c")
    rows = studio.render().rows
    assert {row.adapter_version for row in rows if row.collection == "default"} == {planned.version}
    assert {row.collection for row in rows} == {"default", "kitchen"}
    assert len(studio.painters) == 2  # each version is opened once


def test_a_product_without_memory_has_no_score(studio: Studio) -> None:
    store = studio.home.adapters("default")
    full = studio.learn("a")
    parts = {name: digest for name, digest in full.parts.items() if name != "memory/a"}
    bare = replace(full, parts=parts, parent=full.version)
    bare = replace(bare, version=version_hash(bare))
    store.publish(bare)
    store.rollback(bare.version)
    rows = studio.render().rows
    assert all((row.scores, row.verdict, row.attempts) == ({}, "unscored", 1) for row in rows)


def test_a_memory_of_another_encoder_is_a_clear_error(studio: Studio) -> None:
    studio.learn("a")

    class WideEncoder(ColourEncoder):
        def encode(self, images: Sequence[Pixels]) -> Features:
            return np.repeat(super().encode(images), 2, axis=1)

    def open_painter(home: Home, drawers: Mapping[str, AdapterVersion]) -> Painter:
        return Painter(drawers)

    with pytest.raises(GenerationError, match="has 3 features, the encoder gives 6"):
        render_night(studio.home, DAY, open_sampler=open_painter, encoder=WideEncoder())
