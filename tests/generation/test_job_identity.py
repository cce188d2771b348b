from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from catalog_pipeline.generation.layouts import split_layout
from catalog_pipeline.generation.planner import (
    identify_job,
)
from tests.generation.plans import DAY, concepts, ids, plan, policy


def test_a_product_learned_anew_renames_only_its_own_pictures() -> None:
    generation = policy(singles_per_sku=2, pairs=8, triples=2)
    skus = concepts(6)
    hashes = {c.sku: f"part-{c.sku}" for c in skus}
    before = plan(skus, generation, concept_hashes=hashes)
    again = [*skus[1:], replace(skus[0], task=99)]
    changed = hashes | {"00000": "part-anew"}
    after = plan(again, generation, adapter_version="v2", concept_hashes=changed)
    assert ids(before) - ids(before, "00000") == ids(after) - ids(after, "00000")
    assert not ids(before, "00000") & ids(after)
    assert len(ids(before, "00000")) == len(ids(after, "00000"))
    assert {job.adapter_version for job in after.jobs} == {"v2"}
    assert after.plan_hash != before.plan_hash


def test_without_hashes_every_version_renames_everything() -> None:
    skus, generation = concepts(3), policy(singles_per_sku=1, pairs=2)
    assert not ids(plan(skus, generation)) & ids(plan(skus, generation, adapter_version="v2"))


@pytest.mark.parametrize(
    "change",
    [
        {"scene": "on the moon"},
        {"collection": "garden"},
        {"seed": 5},
        {"sampler": "ddim"},
        {"steps": 21},
        {"guidance": 4.5},
        {"width": 136},
        {"height": 136},
        {"negative_prompt": "blurry"},
        {"layout": "single"},
        {"regions": tuple(reversed(split_layout(2)))},
    ],
)
def test_what_changes_the_picture_changes_the_id(change: dict[str, Any]) -> None:
    skus = concepts(2)
    job = plan(skus, policy(pairs=1)).jobs[0]
    shown = [next(c for c in skus if c.sku == sku) for sku in job.skus]
    assert identify_job(job, shown, {}) == job.job_id
    assert identify_job(replace(job, **change), shown, {}) != job.job_id


def test_sides_words_and_weights_of_a_product_are_part_of_the_id() -> None:
    one, two = concepts(2)
    job = replace(plan([one, two], policy(pairs=1)).jobs[0], skus=(one.sku, two.sku))
    first = identify_job(job, [one, two], {})
    assert identify_job(job, [two, one], {}) != first
    assert identify_job(job, [replace(one, class_noun="jug"), two], {}) != first
    assert identify_job(job, [one, two], {one.sku: "part"}) != first
    assert identify_job(replace(job, adapter_version="v2"), [one, two], {}) != first


@pytest.mark.parametrize(
    "change",
    [{"prompt": "a renamed product"}, {"template": "renamed"}, {"day": DAY + timedelta(days=1)}],
)
def test_what_leaves_the_picture_alone_keeps_the_id(change: dict[str, Any]) -> None:
    shown = concepts(1)
    job = plan(shown, policy(singles_per_sku=1)).jobs[0]
    assert identify_job(replace(job, **change), shown, {}) == job.job_id
    hashes = {shown[0].sku: "part"}
    own = identify_job(job, shown, hashes)
    assert identify_job(replace(job, adapter_version="v2"), shown, hashes) == own
