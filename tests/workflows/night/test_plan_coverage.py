"""Coverage, best-sellers and the preview, counted from manifests that a night published."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

from catalog_pipeline.records import NightPlan
from catalog_pipeline.stores.keys import manifest_key
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.night_inputs import count_shown, read_inputs
from catalog_pipeline.workflows.night.plan_night import (
    ASSUMED_SECONDS_PER_IMAGE,
    decode_plan,
    plan_key,
    plan_night,
)
from catalog_pipeline.workflows.night.preview_night import preview_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from tests.workflows.painted_night import DAY, Studio

YESTERDAY = DAY - timedelta(days=1)


def asking(studio: Studio, **policies: Any) -> Studio:
    return studio.configured(policies={"singles_per_sku": 0, "pairs": 0, "triples": 0} | policies)


def publish(studio: Studio, day: Any = YESTERDAY) -> None:
    plan_night(studio.home, day)
    studio.render(day)
    publish_manifest(studio.home, day)


def pictures(plan: NightPlan) -> Counter[str]:
    return Counter(sku for job in plan.jobs for sku in job.skus)


def counted(studio: Studio) -> tuple[dict[str, int], list[str]]:
    home = studio.home
    return count_shown(home, read_inputs(home, DAY))


def test_published_pictures_of_the_nights_before_count(studio: Studio) -> None:
    studio.learn("a", "b")
    publish(asking(studio, singles_per_sku=1))
    studio.learn("c")
    night = asking(studio, coverage={"images": 2, "nights": 2})
    assert counted(night) == ({"a": 1, "b": 1}, [])
    plan = plan_night(night.home, DAY)
    assert pictures(plan) == {"a": 1, "b": 1, "c": 2}
    assert [job.skus for job in plan.jobs][:2] == [("c",), ("c",)]
    assert {job.policy for job in plan.jobs} == {"coverage"}


def test_nights_outside_of_the_window_and_superseded_pictures_do_not_count(studio: Studio) -> None:
    studio.learn("a", "b")
    publish(asking(studio, singles_per_sku=2), DAY - timedelta(days=2))
    narrow = asking(studio, coverage={"images": 2, "nights": 2})
    assert counted(narrow) == ({}, [])
    wide = asking(studio, coverage={"images": 2, "nights": 3})
    assert counted(wide) == ({"a": 2, "b": 2}, [])
    publish(asking(studio, singles_per_sku=1), DAY - timedelta(days=2))  # supersedes half
    assert counted(wide) == ({"a": 1, "b": 1}, [])


def test_the_night_itself_does_not_count(studio: Studio) -> None:
    studio.learn("a", "b")
    night = asking(studio, coverage={"images": 2, "nights": 7})
    plan = plan_night(night.home, DAY)
    publish(night, DAY)
    assert plan_night(night.home, DAY) == plan
    studio.learn("c")
    assert {job.job_id for job in plan.jobs} < {
        job.job_id for job in plan_night(night.home, DAY).jobs
    }


def test_a_stored_plan_does_not_follow_an_earlier_night(studio: Studio) -> None:
    studio.learn("a", "b")
    night = asking(studio, coverage={"images": 2})
    plan = plan_night(night.home, DAY)
    publish(asking(studio, singles_per_sku=2))
    assert plan_night(night.home, DAY) == plan


def test_a_damaged_manifest_counts_as_empty_and_is_named(studio: Studio) -> None:
    studio.learn("a")
    publish(asking(studio, singles_per_sku=2))
    night = asking(studio, coverage={"images": 2})
    studio.home.objects.put(manifest_key(YESTERDAY), b"PAR1 and then nothing")
    shown, problems = counted(night)
    assert shown == {}
    assert problems[0].startswith(f"coverage: the night of {YESTERDAY} counts as empty, because")
    plan = plan_night(night.home, DAY)
    assert pictures(plan) == {"a": 2}
    assert problems[0] in plan.notes


def test_no_manifest_is_read_when_nobody_asks(studio: Studio) -> None:
    studio.learn("a")
    publish(asking(studio, singles_per_sku=1))
    assert counted(asking(studio, singles_per_sku=1)) == ({}, [])


def test_only_a_product_that_nobody_has_seen_is_new(studio: Studio) -> None:
    studio.learn("a", "b")
    publish(asking(studio, singles_per_sku=1))
    studio.learn("b", edition="again")
    studio.learn("c")
    night = asking(studio, best_sellers={"items": ["a"]})
    (job,) = plan_night(night.home, DAY).jobs
    assert (set(job.skus), job.policy) == ({"a", "c"}, "best_sellers")


def test_lists_are_noted_once_over_all_collections(studio: Studio) -> None:
    studio.learn("a", "b", collection="garden")
    studio.learn("x", collection="kitchen")
    tea = {"name": "tea", "items": ["a", "b", "x", "GONE"]}
    split = {"name": "split", "items": ["x", "b"]}
    far = {"name": "far", "items": ["a", "b"]}
    night = asking(studio, cross_sell={"pictures": 2, "lists": [tea, split, far]})
    notes = plan_night(night.home, DAY).notes
    assert (
        "cross-sell list 'tea' is short in collection 'garden': nothing learned for GONE" in notes
    )
    assert [note for note in notes if "'far'" in note] == []
    assert any("'split' gives no pair in collection 'garden'" in note for note in notes)


def test_the_plan_keeps_policy_and_attention(studio: Studio) -> None:
    studio.learn("a", "b")
    plan = plan_night(studio.home, DAY)
    stored = studio.home.objects.read(plan_key(DAY)).data
    assert decode_plan(stored, "the plan")[0] == plan
    assert {job.policy for job in plan.jobs} == {"singles", "pairs"}


def test_a_plan_of_an_earlier_release_is_read(studio: Studio) -> None:
    studio.learn("a")
    plan_night(studio.home, DAY)
    stored = studio.home.objects.read(plan_key(DAY)).data.decode()
    assert '"schema_version": 3' in stored
    older = json.loads(stored) | {"schema_version": 1}
    for job in older["jobs"]:
        for young in ("mode", "anchors", "spare_anchors", "strength", "backdrop_steps"):
            del job[young]
        del job["policy"], job["attention"], job["output_scale"], job["mode_reason"]
    plan, _ = decode_plan(json.dumps(older).encode(), "the plan")
    assert [job.policy for job in plan.jobs] == [""] * len(plan.jobs)
    assert all(job.attention.method == "none" for job in plan.jobs)
    assert {job.mode for job in plan.jobs} == {"learned"}


# --- the preview ---------------------------------------------------------------------


def test_a_preview_writes_nothing_and_is_the_plan_to_come(studio: Studio) -> None:
    studio.learn("a", "b", "c")
    before = studio.files()
    preview = preview_night(studio.home, DAY)
    assert studio.files() == before
    assert preview.plan == plan_night(studio.home, DAY)
    assert not preview.stored
    assert preview_night(studio.home, DAY).stored
    assert not preview.measured
    assert preview.minutes == len(preview.plan.jobs) * ASSUMED_SECONDS_PER_IMAGE / 60


def test_a_preview_tells_deficits_unseen_products_and_what_is_there(studio: Studio) -> None:
    studio.learn("a", "b", "c")
    publish(asking(studio, singles_per_sku=1))
    short = studio.configured(
        policies={"singles_per_sku": 1, "pairs": 0, "coverage": {"images": 3, "nights": 7}},
        budget={"max_images": 2},
    )
    preview = preview_night(open_home(short.settings), DAY)
    assert preview.shown == {"a": 1, "b": 1, "c": 1}
    assert pictures(preview.plan) == {"c": 2}
    assert preview.deficits == {"a": 2, "b": 2}
    assert preview.unseen == ("a", "b")
    assert preview.measured
    assert preview.rendered == 0
    plan_night(open_home(short.settings), DAY)
    short.render(DAY)
    again = preview_night(open_home(short.settings), DAY)
    assert (again.rendered, again.minutes) == (2, 0.0)
