"""Products of different collections in one picture: planned, drawn, published, kept, and told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.evaluation.page_texts import PageTexts
from catalog_pipeline.generation.planner import identify_job
from catalog_pipeline.records import (
    SHARED,
    NightPlan,
    RenderJob,
    Source,
    collections_of,
    sources_of,
)
from catalog_pipeline.settings import ArchiveSettings, Settings
from catalog_pipeline.stores.adapters import version_hash
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.models import concepts_of, drawn_by, open_sampler, served_version
from catalog_pipeline.workflows.night.gallery import write_gallery
from catalog_pipeline.workflows.night.night_report import collect_night
from catalog_pipeline.workflows.night.plan_night import plan_key, plan_night, read_plan
from catalog_pipeline.workflows.night.preview_night import preview_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.night.render_batches import opened_together
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from catalog_pipeline.workflows.upkeep.dataset_card import dataset_card
from catalog_pipeline.workflows.upkeep.export_images import Selection, chosen_examples
from catalog_pipeline.workflows.upkeep.image_forms import record_of
from catalog_pipeline.workflows.upkeep.query import query_as_file
from catalog_pipeline.workflows.upkeep.verify import verify
from tests.builders import make_render_job, promote
from tests.workflows.painted_night import DAY, Studio
from tests.workflows.tiny_catalog import learn_all, tiny_settings, write_photos

LISTS = {"lists": [{"name": "both", "items": ["mug", "shoe"]}]}
POLICIES: dict[str, Any] = {
    "singles_per_sku": 1,
    "pairs": 4,
    "cross_sell": LISTS,
    "best_sellers": {"items": ["mug"]},
    "coverage": {"images": 3},
}
OF = {"mug": "kitchen", "cup": "kitchen", "jar": "kitchen", "shoe": "shoes", "sock": "shoes"}


def shop(studio: Studio, **generation: Any) -> Studio:
    """Three products learned in ``kitchen``, two in ``shoes``."""
    made = studio.configured(**generation)
    made.learn("mug", "cup", "jar", collection="kitchen")
    made.learn("shoe", "sock", collection="shoes")
    return made


def across(studio: Studio, **generation: Any) -> Studio:
    return shop(studio, across_collections=True, **generation)


def mixed(plan: NightPlan) -> list[RenderJob]:
    return [job for job in plan.jobs if len(collections_of(job)) > 1]


@pytest.mark.parametrize(
    ("generation", "digest"),
    [
        ({}, "613c7d0e2e2d377832c900b63336d90471d108ed8c2ffba4b3473c4e535b8fdb"),
        (
            {"mode": "exact", "policies": POLICIES},
            "260105cabe93241d72d8932f87d070d6d4a27d72ff7b5328d3f5d387966b268e",
        ),
    ],
)
def test_off_a_plan_is_byte_for_byte_what_it_was(
    studio: Studio, generation: dict[str, Any], digest: str
) -> None:
    """The digests are of plans that were made without the setting."""
    made = shop(studio, **generation)
    assert not mixed(plan_night(made.home, DAY))
    assert hashlib.sha256(made.home.objects.read(plan_key(DAY)).data).hexdigest() == digest


def test_products_of_two_collections_are_planned_together(studio: Studio) -> None:
    made = across(studio, policies=POLICIES)
    plan = plan_night(made.home, DAY)
    versions = {name: served_version(made.home, name).version for name in ("kitchen", "shoes")}
    assert {job.policy for job in mixed(plan)} >= {"pairs", "cross_sell/both"}
    for job in plan.jobs:
        expected = {sku: Source(OF[sku], versions[OF[sku]]) for sku in job.skus}
        assert sources_of(job) == expected
        assert job.sources == (expected if len(set(expected.values())) > 1 else {})
        assert (job.collection, job.adapter_version) == expected[job.skus[0]]
    assert not any("both" in note for note in plan.notes)
    assert read_plan(made.home, DAY) == plan == plan_night(made.home, DAY)
    told = preview_night(made.home, DAY).to_record()
    assert told["per_collection"]["kitchen + shoes"] == len(mixed(plan))


def test_a_product_alone_is_drawn_as_with_the_setting_off(studio: Studio) -> None:
    made = across(studio)
    on, off = (plan_night(each.home, DAY) for each in (made, made.configured()))
    assert mixed(on)
    assert not mixed(off)
    assert alone(on) == alone(off)


def alone(plan: NightPlan) -> dict[str, RenderJob]:
    return {job.job_id: job for job in plan.jobs if len(job.skus) == 1}


def test_the_collections_of_a_picture_are_part_of_its_id(studio: Studio) -> None:
    made = across(studio)
    heads = [served_version(made.home, name) for name in ("kitchen", "shoes")]
    concepts = concepts_of(drawn_by(*heads))
    job = mixed(plan_night(made.home, DAY))[0]
    shown = [concepts[sku] for sku in job.skus]
    own = identify_job(job, shown, dict.fromkeys(concepts, "part"))
    last = job.skus[-1]
    for source, same in (
        (Source(job.sources[last].collection, "later"), True),
        (Source("elsewhere", "later"), False),
    ):
        changed = replace(job, sources={**job.sources, last: source})
        assert (identify_job(changed, shown, dict.fromkeys(concepts, "part")) == own) is same
        assert identify_job(changed, shown, {}) != identify_job(job, shown, {})


def test_a_night_across_collections_is_drawn_found_and_told(studio: Studio) -> None:
    made = across(studio)
    plan = plan_night(made.home, DAY)
    report = made.render()
    publish_manifest(made.home, DAY)
    assert (report.failed, report.quarantined) == ((), ())
    assert len(made.painters) == 1  # one model for the collections that share pictures
    rows = {row.image_id: row for row in made.home.archive.read_day(DAY)}
    heads = {name: served_version(made.home, name) for name in ("kitchen", "shoes")}
    for job in plan.jobs:
        row = rows[job.job_id]
        assert row.verdict == "passed"
        assert all(row.scores[f"found/{sku}"] == 1 for sku in job.skus)
        assert sources_of(row) == sources_of(job)
        assert row.concepts == {sku: heads[OF[sku]].parts[f"concept/{sku}"] for sku in job.skus}
    sql = "SELECT DISTINCT sku, collection, adapter_version AS version FROM products ORDER BY sku"
    assert json.loads(query_as_file(made.home, sql, "json")) == [
        {"sku": sku, "collection": name, "version": heads[name].version}
        for sku, name in sorted(OF.items())
    ]
    verified = verify(made.home, DAY)
    assert (verified.problems, verified.versions) == ((), 2)
    examples = chosen_examples(made.home, Selection())
    assert "collections | kitchen, shoes" in dataset_card(examples, "coco")
    for product in (p for example in examples for p in record_of(example)["products"]):
        assert product["collection"] == OF[product["sku"]]
    served = {
        each.collection: each for each in collect_night(made.home, DAY, PageTexts("en")).served
    }
    assert {name: each.pictures for name, each in served.items()} == {
        name: sum(name in collections_of(job) for job in plan.jobs) for name in heads
    }
    assert "kitchen, shoes" in write_gallery(made.home, DAY).read_text("utf-8")
    assert made.render().rendered == 0


def test_gc_keeps_the_versions_of_both(studio: Studio) -> None:
    made = across(studio)
    used = {served_version(made.home, name).version for name in ("kitchen", "shoes")}
    plan_night(made.home, DAY)
    made.render()
    publish_manifest(made.home, DAY)
    for turn in range(3):
        made.learn("mug", collection="kitchen", edition=f"{turn}")
        made.learn("shoe", collection="shoes", edition=f"{turn}")
    made.home.objects.delete(plan_key(DAY))  # rows alone name them now
    settings = made.settings.model_copy(update={"archive": ArchiveSettings(keep_versions=1)})
    later = datetime.now(UTC) + timedelta(days=1)
    removed = collect_garbage(open_home(settings), grace_hours=0, now=later)
    assert "version" in {item.kind for item in removed.garbage}
    left = {v for name in ("kitchen", "shoes") for v in made.home.adapters(name).version_names()}
    assert used < left
    assert verify(made.home).problems == ()


def test_a_product_that_two_heads_know_is_drawn_by_the_one_that_serves_it(studio: Studio) -> None:
    made = across(studio)
    made.learn("mug", collection="shoes", edition="other")
    serving = served_version(made.home, "kitchen")  # the first by name, no card says otherwise
    assert plan_night(made.home, DAY)
    made.render()
    rows = [row for row in made.home.archive.staged(DAY) if "mug" in row.skus]
    assert any(row.sources for row in rows)
    assert {sources_of(row)["mug"].collection for row in rows} == {"kitchen"}
    assert {row.concepts["mug"] for row in rows} == {serving.parts["concept/mug"]}


def test_a_shared_slot_and_another_base_stay_apart_and_are_named(studio: Studio) -> None:
    made = across(studio)
    for name, change in (
        ("old", {}),
        ("sd", {"base_model_hash": "other"}),
    ):
        made.learn(name, collection=name)
        store = made.home.adapters(name)
        head = served_version(made.home, name)
        shared = {} if change else {SHARED: store.write_part(b"a slot")}
        draft = replace(head, parent=head.version, parts={**head.parts, **shared}, **change)
        promote(store, replace(draft, version=version_hash(draft)))
    plan = plan_night(made.home, DAY)
    assert all(collections_of(job) == ["kitchen", "shoes"] for job in mixed(plan))
    told = [note for note in plan.notes if note.startswith("across_collections: ")]
    assert told == [
        "across_collections: no product of 'old' stands beside one of 'kitchen', 'shoes', because "
        "a shared slot (learning.yaml: adapter.slots) is for one collection",
        "across_collections: no product of 'sd' stands beside one of 'kitchen', 'shoes', because "
        "they were learned on different bases",
    ]
    assert {"old", "sd"} <= {sku for job in plan.jobs for sku in job.skus}


def test_photos_kept_out_of_scenes_keep_out_of_those_of_others(studio: Studio) -> None:
    made = across(studio, mode="exact", anchor_photos={"shoes": False})
    for job in mixed(plan_night(made.home, DAY)):
        assert job.mode_reason == "anchor_photos is off for collection 'shoes'"


def test_a_version_that_is_gone_is_one_clear_error(studio: Studio) -> None:
    made = across(studio)
    plan_night(made.home, DAY)
    gone = served_version(made.home, "shoes").version
    made.home.objects.delete(f"collections/shoes/versions/{gone}.json")
    with pytest.raises(GenerationError, match=f"{gone} of collection 'shoes'.*plan the night"):
        made.render()
    assert made.home.archive.staged(DAY) == []


def test_what_shares_pictures_with_a_third_is_opened_with_it() -> None:
    a, b, c, d = (Source(name, "v") for name in "abcd")

    def job(one: Source, two: Source) -> RenderJob:
        sources = {"x": one, "y": two} if one != two else {}
        return make_render_job("x", "y", collection=one[0], adapter_version="v", sources=sources)

    together = opened_together([job(a, b), job(d, d), job(c, b)])
    assert together == {a: (a, b, c), b: (a, b, c), c: (a, b, c), d: (d,)}


def test_a_pair_is_the_same_bit_for_bit_whatever_collections_its_products_are_of(
    make_settings: Callable[..., Settings], tiny_model_folder: Path
) -> None:
    """A real model: two products learned in one collection, then one of them in another."""
    tiny = tiny_settings(make_settings, tiny_model_folder)
    for seed, sku in enumerate(("mug", "shoe")):
        write_photos(tiny, sku, seed)
    assert {outcome.status for outcome in learn_all(tiny).values()} == {"learned"}
    home = open_home(tiny)
    job = replace(
        make_render_job("mug", "shoe"),
        adapter_version=served_version(home, "default").version,
    )

    def picture(job: RenderJob, *collections: str) -> list[Any]:
        drawers = drawn_by(*(served_version(home, name) for name in collections))
        sampler = open_sampler(home, drawers)
        return [p.tolist() for p in sampler.render([job], concepts_of(drawers))]

    single = picture(job, "default")
    card = tiny.catalog_root / "shoe/sku.yaml"
    card.write_text(yaml.safe_dump({"class_noun": "mug", "collection": "shoes"}))
    assert "not trained again" in learn_all(tiny)["shoe"].reason
    assert [c.sku for c in served_version(home, "default").concepts] == ["mug"]
    assert picture(job, "default", "shoes") == single
    assert picture(replace(job, skus=job.skus[::-1]), "shoes", "default") != single
