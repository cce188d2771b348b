from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from catalog_pipeline.generation.planner import identify_job
from catalog_pipeline.records import JudgedPhoto, NightPlan, ProductPhotos
from catalog_pipeline.settings import GenerationSettings
from tests.generation.plans import concepts, plan, policy


def photos_of(sku: str, count: int = 4, **changes: Any) -> ProductPhotos:
    judged = tuple(
        JudgedPhoto(f"{sku}/{i}.jpg", f"{sku}-{i}", aspect=0.8, light=(50.0 + 10 * i, 0, 0))
        for i in range(count)
    )
    return ProductPhotos(sku, judged, **changes)


def settings(**changes: Any) -> GenerationSettings:
    policies = changes.pop("policies", {"singles_per_sku": 2, "pairs": 4})
    plain = policy(**policies).model_dump() | changes
    return GenerationSettings.model_validate(plain)


def night(generation: GenerationSettings, known: Any = photos_of, count: int = 3) -> NightPlan:
    return plan(concepts(count), generation, find_photos=known)


def modes(planned: NightPlan) -> Counter[str]:
    return Counter(job.mode for job in planned.jobs)


def test_every_product_has_a_photo_and_a_box_in_its_region():
    for job in night(settings()).jobs:
        assert job.mode == "exact"
        assert [anchor.sku for anchor in job.anchors] == list(job.skus)
        for anchor, region in zip(job.anchors, job.regions, strict=True):
            assert anchor.key.startswith(f"{anchor.sku}/")
            assert region.left <= anchor.box.left < anchor.box.right <= region.right
        assert len(job.spare_anchors) == 2
        used = [[a.sha256 for a in s] for s in (job.anchors, *job.spare_anchors)]
        assert len({tuple(row) for row in used}) == 3


def test_photos_are_drawn_by_the_night_and_change_over_it():
    planned = night(settings(policies={"singles_per_sku": 4}))
    for sku in ("00000", "00001", "00002"):
        photos = [j.anchors[0].sha256 for j in planned.jobs if j.skus == (sku,)]
        assert len(set(photos)) == 4
    assert night(settings(policies={"singles_per_sku": 4})) == planned


def test_beside_another_product_the_photo_of_like_light_is_taken():
    def known(sku: str) -> ProductPhotos:
        return photos_of(sku, 8)

    gaps = []
    for job in night(settings(policies={"pairs": 12}), known, count=6).jobs:
        one, two = (int(anchor.sha256[-1]) for anchor in job.anchors)
        gaps.append(abs(one - two))
    assert sum(gaps) / len(gaps) < 1.7  # 2.6 if both were drawn freely


def test_the_nearest_word_decides_the_mode():
    scene = settings().scenes[0].model_copy(update={"mode": "learned"})
    assert modes(night(settings(mode="anchored")))["anchored"] == 10
    by_policy = settings(policies={"singles_per_sku": 1, "pairs": 3, "modes": {"pairs": "learned"}})
    assert modes(night(by_policy)) == {"exact": 3, "learned": 3}
    by_scene = settings(
        policies={"singles_per_sku": 1, "modes": {"singles": "anchored"}}, scenes=[scene]
    )
    assert modes(night(by_scene)) == {"learned": 3}
    by_card = night(by_scene, lambda sku: photos_of(sku, mode="exact"))
    assert modes(by_card) == {"exact": 3}
    assert not any(job.mode_reason for job in night(by_scene).jobs)


def test_of_two_cards_the_one_that_keeps_most_to_itself_decides():
    cards = {"00000": "learned", "00001": "anchored"}
    planned = night(
        settings(policies={"pairs": 9}), lambda sku: photos_of(sku, mode=cards.get(sku, "exact"))
    )
    for job in planned.jobs:
        assert job.mode == ("learned" if "00000" in job.skus else "exact")


def test_photos_need_no_attention_control_unless_it_is_asked_for():
    cards = {"00000": "learned", "00002": "anchored", "00003": "anchored"}
    for method, guided in (("auto", {"learned"}), ("gradient", {"learned", "anchored", "exact"})):
        planned = night(
            settings(policies={"pairs": 9}, attention={"method": method}),
            lambda sku: photos_of(sku, mode=cards.get(sku, "exact")),
            4,
        )
        pairs = [job for job in planned.jobs if len(job.skus) == 2]
        assert {job.mode for job in pairs} == {"learned", "anchored", "exact"}
        for job in pairs:
            assert job.attention.method == ("gradient" if job.mode in guided else "none")


def test_without_a_photo_the_scene_is_learned_and_says_why():
    def known(sku: str) -> ProductPhotos:
        return ProductPhotos(sku, reason="a hand") if sku == "00001" else photos_of(sku)

    planned = night(settings(), known)
    for job in planned.jobs:
        assert (job.mode == "learned") == ("00001" in job.skus)
        assert job.mode_reason == ("00001: a hand" if job.mode == "learned" else "")
        assert (job.strength, job.anchors) == (1.0, ()) or job.mode == "exact"
    assert "without photos in them: 00001: a hand" in planned.notes[-1]


def test_reasons_of_several_products_are_told_apart_whatever_they_say():
    def known(sku: str) -> ProductPhotos:
        return ProductPhotos(sku, reason="30 px; expected 48") if sku != "00002" else photos_of(sku)

    planned = night(settings(policies={"pairs": 3}), known)
    (both,) = (job for job in planned.jobs if set(job.skus) == {"00000", "00001"})
    assert both.mode_reason.count(": 30 px; expected 48") == 2
    assert planned.notes[-1].endswith("00000: 30 px; expected 48, 00001: 30 px; expected 48")


@pytest.mark.parametrize(
    ("allowed", "mode"),
    [(False, "learned"), ({"kitchen": False}, "learned"), ({"garden": False}, "exact")],
)
def test_photos_can_be_kept_out_of_scenes_at_once_or_by_collection(allowed, mode):
    planned = night(settings(anchor_photos=allowed))
    assert {job.mode for job in planned.jobs} == {mode}
    assert all(bool(job.mode_reason) == (mode == "learned") for job in planned.jobs)


def test_ids_hash_the_photo_its_place_and_how_it_is_redrawn():
    skus = concepts(2)
    job = plan(skus, settings(policies={"pairs": 1}), find_photos=photos_of).jobs[0]
    shown = [next(c for c in skus if c.sku == sku) for sku in job.skus]
    other = replace(job.anchors[0], sha256="another")
    moved = replace(job.anchors[0], box=job.anchors[1].box)
    assert identify_job(job, shown, {}) == job.job_id
    for changed in (
        {"anchors": (other, job.anchors[1])},
        {"anchors": (moved, job.anchors[1])},
        {"strength": 0.5},
        {"mode": "anchored"},
        {"output_scale": 2},
        {"backdrop_steps": 9},
    ):
        assert identify_job(replace(job, **changed), shown, {}) != job.job_id
    renamed = replace(job.anchors[0], key="elsewhere.jpg")
    same = replace(job, anchors=(renamed, job.anchors[1]), spare_anchors=())
    assert identify_job(same, shown, {}) == job.job_id


def test_ids_of_learned_pictures_are_those_of_earlier_releases():
    generation = settings(policies={"pairs": 2}, mode="learned")
    assert night(generation).jobs == plan(concepts(3), generation).jobs
