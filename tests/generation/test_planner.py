from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.layouts import split_layout
from catalog_pipeline.generation.plan_summary import describe_plan
from catalog_pipeline.generation.planner import (
    choose_control,
    join_plans,
    list_names,
)
from catalog_pipeline.records import Concept, ProductPhotos
from catalog_pipeline.settings import (
    AttentionSettings,
    BudgetSettings,
    GenerationSettings,
    SceneTemplate,
)
from tests.generation.plans import (
    DAY,
    SCENES,
    concept,
    concepts,
    draw,
    ids,
    images,
    pair_counts,
    plan,
    policy,
)

# --- determinism -------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(data=st.data(), count=st.integers(1, 9), pairs=st.integers(0, 9), triples=st.integers(0, 5))
def test_the_same_inputs_in_any_order_give_the_same_plan(
    data: st.DataObject, count: int, pairs: int, triples: int
) -> None:
    skus = concepts(count, 3)
    generation = policy(singles_per_sku=2, pairs=pairs, triples=triples)
    shuffled = data.draw(st.permutations(skus))
    assert plan(shuffled, generation) == plan(skus, generation)


def test_a_plan_stays_what_it_is_across_releases() -> None:
    # A changed draw would rename and render anew every picture of a night that is
    # planned again, so a new expectation here is a decision, not a repair.
    night = plan(concepts(4), policy(singles_per_sku=1, pairs=2))
    assert [(j.skus, j.template, j.seed, j.job_id) for j in night.jobs[:3]] == [
        (("00003",), "grass", 1205339091, "1fcee2f2626015477ea1ba0cb44e8ca8"),
        (("00000", "00003"), "sand", 1262981339, "e3ac57189523255c627746af23456013"),
        (("00002",), "sand", 1385529190, "cd9d02022f11d8cdc8f35476254d38f4"),
    ]


def test_days_seeds_and_collections_draw_differently() -> None:
    skus, generation = concepts(12), policy(singles_per_sku=1, pairs=6)
    base = plan(skus, generation)
    others = [
        plan(skus, generation, DAY + timedelta(days=1)),
        plan(skus, generation.model_copy(update={"seed": 1})),
        plan(skus, generation, collection="garden"),
    ]
    for other in others:
        assert not ids(base) & ids(other)
        assert {j.seed for j in base.jobs}.isdisjoint(j.seed for j in other.jobs)
        assert {j.skus for j in base.jobs} != {j.skus for j in other.jobs}
        scenes = {j.skus[0]: j.template for j in base.jobs if len(j.skus) == 1}
        moved = {j.skus[0]: j.template for j in other.jobs if len(j.skus) == 1}
        assert scenes != moved


def test_a_month_of_nights_lets_most_pairs_meet() -> None:
    skus, generation = concepts(10), policy(pairs=5)
    nights = [plan(skus, generation, DAY + timedelta(days=i)) for i in range(28)]
    met = {tuple(sorted(job.skus)) for night in nights for job in night.jobs}
    assert len(met) > 40  # of 45


def test_ids_and_seeds_are_unique_and_well_formed() -> None:
    night = plan(concepts(8), policy(singles_per_sku=6, pairs=40, triples=10))
    assert len(night.jobs) == 8 * 6 + 40 + 10
    assert len(ids(night)) == len(night.jobs)
    assert len({job.seed for job in night.jobs}) == len(night.jobs)
    for job in night.jobs:
        assert len(job.job_id) == 32
        assert int(job.job_id, 16) >= 0
        assert 0 <= job.seed < 2**31


# --- coverage ----------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 16),
    pairs=st.integers(1, 50),
    categories=st.integers(1, 4),
    rule=st.sampled_from(["any", "same_category"]),
    offset=st.integers(0, 400),
)
def test_every_sku_appears_in_about_the_same_number_of_pairs(
    count: int, pairs: int, categories: int, rule: str, offset: int
) -> None:
    skus = concepts(count, categories)
    day = DAY + timedelta(days=offset)
    night = plan(skus, policy(pairs=pairs, pair_rule=rule), day)
    sizes = Counter(c.category for c in skus)
    paired = [c for c in skus if rule == "any" or sizes[c.category] > 1]
    assert len(night.jobs) == (pairs if len(paired) > 1 else 0)
    counts = pair_counts(night, paired)
    assert not paired or max(counts.values()) - min(counts.values()) <= 2
    assert set(counts) == {c.sku for c in paired}


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 10), offset=st.integers(0, 400))
def test_no_pair_meets_twice_before_all_have_met(count: int, offset: int) -> None:
    total = count * (count - 1) // 2
    night = plan(concepts(count), policy(pairs=total), DAY + timedelta(days=offset))
    assert len({frozenset(job.skus) for job in night.jobs}) == total


def test_triples_are_balanced_too() -> None:
    skus = concepts(9)
    counts = pair_counts(plan(skus, policy(triples=12)), skus, 3)
    assert sum(counts.values()) == 36
    assert max(counts.values()) - min(counts.values()) <= 2


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("rule", ["same_category", "cross_category"])
def test_pair_rules_hold_for_every_two_products_of_a_picture(rule: str, size: int) -> None:
    skus = concepts(11, 3)
    category = {c.sku: c.category for c in skus}
    kind = "pairs" if size == 2 else "triples"
    night = plan(skus, policy(pair_rule=rule, **{kind: 20}))
    assert len(night.jobs) == 20
    for job in night.jobs:
        kinds = {category[sku] for sku in job.skus}
        assert len(set(job.skus)) == size
        assert len(kinds) == (1 if rule == "same_category" else size)


def test_a_product_without_a_category_goes_by_its_class_noun() -> None:
    skus = [concept("a", noun="mug"), concept("b", noun="mug"), concept("c", noun="vase")]
    night = plan(skus, policy(pairs=3, pair_rule="same_category"))
    assert {frozenset(job.skus) for job in night.jobs} == {frozenset("ab")}
    assert night.notes == ("in no pairs under pair_rule 'same_category': c",)


@pytest.mark.parametrize(
    ("rule", "skus"),
    [("any", concepts(1)), ("same_category", concepts(3, 3)), ("cross_category", concepts(3, 1))],
)
def test_pairs_that_cannot_be_made_are_noted(rule: str, skus: list[Concept]) -> None:
    night = plan(skus, policy(singles_per_sku=1, pairs=4, pair_rule=rule))
    assert all(job.layout == "single" for job in night.jobs)
    assert any(f"no pairs planned: {len(skus)} product(s)" in note for note in night.notes)


def test_singles_of_a_sku_go_through_different_scenes() -> None:
    night = plan(concepts(5), policy(singles_per_sku=len(SCENES)))
    for sku in (f"{i:05d}" for i in range(5)):
        scenes = [job.template for job in night.jobs if job.skus == (sku,)]
        assert sorted(scenes) == sorted(scene.name for scene in SCENES)


def test_a_heavier_scene_is_drawn_more_often() -> None:
    drawn = Counter(job.template for job in plan(concepts(400), policy(singles_per_sku=1)).jobs)
    assert drawn["sand"] > 1.5 * drawn["wood"] > drawn["wood"] > 1.5 * drawn["snow"] > 0


def test_products_that_meet_again_change_sides_and_scenes() -> None:
    night = plan(concepts(2), policy(pairs=4))
    assert {job.skus for job in night.jobs} == {("00000", "00001"), ("00001", "00000")}
    assert all(one.skus != two.skus for one, two in pairwise(night.jobs))
    assert len({job.template for job in night.jobs}) == 4


# --- layout and words --------------------------------------------------------


def test_layouts_are_equal_columns_from_left_to_right() -> None:
    assert [(r.left, r.right) for r in split_layout(1)] == [(0.0, 1.0)]
    assert [(r.left, r.right) for r in split_layout(2)] == [(0.0, 0.5), (0.5, 1.0)]
    assert [r.right for r in split_layout(3)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert all(r.top == 0.0 and r.bottom == 1.0 for n in (1, 2, 3) for r in split_layout(n))
    night = plan(concepts(4), policy(singles_per_sku=1, pairs=1, triples=1))
    assert {(j.layout, len(j.skus), j.regions) for j in night.jobs} == {
        (name, n, split_layout(n))
        for n, name in ((1, "single"), (2, "left_right"), (3, "three_columns"))
    }


@pytest.mark.parametrize("count", [0, 4])
def test_a_layout_of_other_counts_is_refused(count: int) -> None:
    with pytest.raises(GenerationError, match=f"no layout for {count} products"):
        split_layout(count)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["red mug"], "a red mug"),
        (["Red mug", "alarm clock"], "a Red mug and an alarm clock"),
        (["mug", "orange vase", "7 up can"], "a mug, an orange vase and a 7 up can"),
        (["the Cup", "An urn"], "the Cup and An urn"),
        (["星のマグ"], "星のマグ"),
    ],
)
def test_products_are_named_as_a_sentence_would(names: list[str], expected: str) -> None:
    assert list_names(names) == expected


def test_prompts_name_the_products_in_their_order() -> None:
    night = plan(concepts(2), policy(pairs=1))
    job = night.jobs[0]
    left, right = job.skus
    assert job.prompt == f"a product {left} and a product {right} {job.scene}"
    assert job.scene == f"on {job.template}"


# --- budget ------------------------------------------------------------------


def test_a_short_budget_keeps_the_products_learned_last() -> None:
    skus = concepts(6)
    night = plan(skus, policy(singles_per_sku=2).model_copy(update={"budget": images(5)}))
    assert [job.skus[0] for job in night.jobs] == ["00005", "00005", "00004", "00004", "00003"]
    (note,) = night.notes
    assert note == (
        "budget (max_images 5): 5 of 12 pictures planned, dropped 7 singles; the products "
        "learned last came first; no picture of 00000, 00001, 00002"
    )


def test_the_budget_drops_pictures_but_changes_none() -> None:
    generation = policy(singles_per_sku=2, pairs=9, triples=3)
    whole = plan(concepts(7), generation)
    short = plan(concepts(7), generation.model_copy(update={"budget": images(11)}))
    assert short.jobs == whole.jobs[:11]
    assert short.plan_hash != whole.plan_hash


@pytest.mark.parametrize(
    ("max_images", "minutes", "expected"), [(4, 1.0, 4), (9, 1.0, 6), (None, 0.1, 0), (9, None, 9)]
)
def test_the_smaller_bound_wins(
    max_images: int | None, minutes: float | None, expected: int
) -> None:
    budget = BudgetSettings(max_images=max_images, max_minutes=minutes)
    generation = policy(singles_per_sku=2).model_copy(update={"budget": budget})
    assert len(plan(concepts(6), generation, seconds_per_image=10.0).jobs) == expected


def test_minutes_without_an_estimate_are_refused() -> None:
    budget = BudgetSettings(max_images=None, max_minutes=5.0)
    generation = policy(singles_per_sku=1).model_copy(update={"budget": budget})
    with pytest.raises(GenerationError, match="max_minutes 5 needs a positive estimate"):
        plan(concepts(1), generation)


def test_collections_share_a_budget_in_proportion() -> None:
    generation = policy(singles_per_sku=1)
    large = draw(concepts(30), generation, collection="large")
    small = draw(concepts(10), generation, collection="small")
    night = join_plans(DAY, [large, small], images(20))
    assert describe_plan(night)["per_collection"] == {"large": 15, "small": 5}
    assert [job for job in night.jobs if job.collection == "small"] == [
        wish.make() for wish in small.wishes[:5]
    ]


def test_plans_that_do_not_belong_together_are_refused() -> None:
    night = draw(concepts(2), policy(singles_per_sku=1))
    with pytest.raises(GenerationError, match="more than once"):
        join_plans(DAY, [night, night], images(9))
    with pytest.raises(GenerationError, match="2025-03-14 into the night of 2025-03-15"):
        join_plans(DAY + timedelta(days=1), [night], images(9))


# --- refusals and the shipped file -------------------------------------------


def test_nothing_learned_is_refused() -> None:
    with pytest.raises(GenerationError, match="'kitchen' has no learned product"):
        plan([], policy(singles_per_sku=1))


def test_a_sku_given_twice_is_refused() -> None:
    with pytest.raises(GenerationError, match="SKU '00000' is given 2 times"):
        plan(concepts(1) * 2, policy(singles_per_sku=1))


@pytest.mark.parametrize(
    ("scenes", "message"),
    [((), "defines no scenes"), ((SCENES[0], SCENES[0]), "'wood' is defined 2 times")],
)
def test_scenes_that_cannot_be_drawn_are_refused(
    scenes: tuple[SceneTemplate, ...], message: str
) -> None:
    with pytest.raises(GenerationError, match=message):
        plan(concepts(1), policy(singles_per_sku=1).model_copy(update={"scenes": scenes}))


def test_policies_that_ask_for_nothing_give_an_empty_plan_with_a_note() -> None:
    night = plan(concepts(3), policy())
    assert night.jobs == ()
    assert "nothing planned" in night.notes[0]


def test_the_description_counts_every_picture() -> None:
    night = plan(concepts(3), policy(singles_per_sku=2, pairs=3))
    described = describe_plan(night)
    assert described["jobs"] == sum(described["per_template"].values()) == 9
    assert described["per_layout"] == {"left_right": 3, "single": 6}
    assert described["per_sku"]["00001"] == {"left_right": 2, "single": 2}
    assert described["plan_hash"] == night.plan_hash


def test_attention_is_guided_for_two_products_alone_where_it_is_auto() -> None:
    auto, gradient = (AttentionSettings(method=m) for m in ("auto", "gradient"))
    assert [choose_control(auto, n).method for n in (1, 2, 3)] == ["none", "gradient", "none"]
    assert [choose_control(gradient, n).method for n in (1, 2, 3)] == ["none", *["gradient"] * 2]
    assert choose_control(auto, 3).gap == auto.gap


def test_the_shipped_settings_plan_a_night() -> None:
    path = Path(__file__).parents[2] / "assets_config" / "generation.yaml"
    shipped = GenerationSettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    night = plan(concepts(4), shipped)
    assert describe_plan(night)["per_layout"] == {"left_right": 12, "single": 8}
    assert night.notes == ()


def test_the_shipped_settings_name_every_key() -> None:
    path = Path(__file__).parents[2] / "assets_config" / "generation.yaml"
    shipped = yaml.safe_load(path.read_text(encoding="utf-8"))
    expected = GenerationSettings().model_dump()
    assert set(shipped) == set(expected)
    assert set(shipped["policies"]) == set(expected["policies"])
    assert set(shipped["budget"]) == set(expected["budget"])


def test_photos_are_looked_for_within_the_budget_alone() -> None:
    looked: list[str] = []

    def find(sku: str) -> ProductPhotos:
        looked.append(sku)
        return ProductPhotos(sku, reason="none")

    generation = policy(singles_per_sku=1).model_copy(update={"budget": images(3), "mode": "exact"})
    night = plan(concepts(50), generation, find_photos=find)
    assert sorted(set(looked)) == sorted(sku for job in night.jobs for sku in job.skus)
    assert len(night.jobs) == 3
    assert any(note.startswith("3 picture(s) are learned") for note in night.notes)
