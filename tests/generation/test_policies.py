"""Cross-sell lists, best-sellers and coverage: who is asked for, and what stays as it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.generation.planner import join_plans
from catalog_pipeline.generation.policies import list_items
from catalog_pipeline.records import Concept, NightPlan
from catalog_pipeline.settings import CoverageSettings
from tests.generation.plans import DAY, concept, concepts, draw, ids, images, plan, policy

SHOP = [
    *(concept(f"mug-{i}", i, noun="mug") for i in range(4)),
    concept("teapot", 4, "kitchen", "teapot"),
    concept("toaster", 5, "kitchen", "toaster"),
    concept("lamp", 6, "home", "lamp"),
]


def crossed(*lists: dict[str, Any], pictures: int = 6, **policies: Any) -> Any:
    return policy(cross_sell={"pictures": pictures, "lists": lists}, **policies)


def of_policy(night: NightPlan, name: str) -> list[frozenset[str]]:
    return [frozenset(job.skus) for job in night.jobs if job.policy == name]


# --- cross-sell lists ----------------------------------------------------------------


def test_a_list_pairs_products_of_two_different_items() -> None:
    tea = {"name": "tea", "items": ["category:Mug", "teapot"]}
    night = plan(SHOP, crossed(tea, pictures=4))
    assert len(night.jobs) == 4
    assert set(of_policy(night, "cross_sell/tea")) == {
        frozenset((f"mug-{i}", "teapot")) for i in range(4)
    }
    assert night.notes == ()


def test_lists_are_not_bound_by_the_pair_rule() -> None:
    tea = {"name": "tea", "items": ["lamp", "teapot"]}
    night = plan(SHOP, crossed(tea, pictures=1, pair_rule="same_category"))
    assert of_policy(night, "cross_sell/tea") == [frozenset(("lamp", "teapot"))]


@settings(max_examples=40, deadline=None)
@given(
    items=st.lists(
        st.sampled_from(["mug-0", "mug-1", "category:mug", "category:kitchen", "lamp", "teapot"]),
        min_size=2,
        max_size=5,
        unique=True,
    ),
    pictures=st.integers(1, 12),
    offset=st.integers(0, 200),
)
def test_every_pair_of_a_list_takes_one_product_each_of_two_items(
    items: list[str], pictures: int, offset: int
) -> None:
    entry = {"name": "any", "items": items}
    night = plan(SHOP, crossed(entry, pictures=pictures), DAY + timedelta(days=offset))
    means = {
        item: {c.sku for c in SHOP if item in (c.sku, f"category:{c.category or c.class_noun}")}
        for item in items
    }
    assert len(night.jobs) == pictures
    for job in night.jobs:
        one, two = job.skus
        assert one != two
        assert any(one in means[a] and two in means[b] for a in items for b in items if a != b), (
            job.skus,
            items,
        )


def test_pictures_are_shared_out_by_weight_and_light_lists_have_their_nights() -> None:
    lists = [
        {"name": "heavy", "items": ["mug-0", "teapot"], "weight": 3},
        {"name": "light", "items": ["lamp", "toaster"], "weight": 1},
    ]
    drawn = Counter(
        job.policy
        for offset in range(40)
        for job in plan(SHOP, crossed(*lists, pictures=2), DAY + timedelta(days=offset)).jobs
    )
    assert sum(drawn.values()) == 80
    assert 12 <= drawn["cross_sell/light"] <= 28  # a quarter of 80 is 20
    eight = Counter(job.policy for job in plan(SHOP, crossed(*lists, pictures=8)).jobs)
    assert eight == {"cross_sell/heavy": 6, "cross_sell/light": 2}


def test_what_is_not_learned_is_a_note_and_the_rest_goes_on() -> None:
    lists = [
        {"name": "tea", "items": ["teapot", "mug-0", "SCONE-1"]},
        {"name": "gone", "items": ["SCONE-1", "category:jam"]},
        {"name": "half", "items": ["lamp", "category:jam"]},
    ]
    night = plan(SHOP, crossed(*lists, pictures=2))
    assert [job.policy for job in night.jobs] == ["cross_sell/tea"] * 2
    assert night.notes == (
        "cross-sell list 'tea' is short in collection 'kitchen': nothing learned for SCONE-1",
        "cross-sell list 'gone' gives no pair in collection 'kitchen': nothing learned for "
        "SCONE-1, category:jam",
        "cross-sell list 'half' gives no pair in collection 'kitchen': nothing learned for "
        "category:jam",
    )


def test_what_other_collections_have_is_no_stray() -> None:
    far = {"name": "far", "items": ["SCONE-1", "category:jam"]}
    tea = {"name": "tea", "items": ["teapot", "lamp", "SCONE-1"]}
    night = plan(SHOP, crossed(far, tea), elsewhere={"SCONE-1", "category:jam"})
    assert night.notes == ()
    split = {"name": "split", "items": ["teapot", "SCONE-1"]}
    (note,) = plan(SHOP, crossed(split), elsewhere={"SCONE-1"}).notes[:1]
    assert note.startswith("cross-sell list 'split' gives no pair in collection 'kitchen'")


def test_a_list_whose_items_are_one_product_gives_no_pair() -> None:
    night = plan([concept("a", noun="mug")], crossed({"name": "x", "items": ["a", "category:mug"]}))
    assert "gives no pair in collection 'kitchen': its items are one SKU" in night.notes[0]


def test_list_items_are_skus_and_categories() -> None:
    assert list_items({c.sku: c for c in SHOP[3:5]}) == {
        *("mug-3", "teapot", "category:mug", "category:kitchen")
    }


# --- best-sellers --------------------------------------------------------------------


def seller(*items: str, **changes: Any) -> Any:
    best = {"items": items, "per_new_sku": 2} | changes
    return policy(best_sellers=best)


def test_each_new_product_is_shown_beside_best_sellers() -> None:
    seen = {"mug-0": 1, "mug-1": 3, "mug-2": 1, "mug-3": 1}
    night = plan(SHOP, seller("mug-0", "mug-1", "mug-2"), shown=seen)
    pairs = of_policy(night, "best_sellers")
    assert len(pairs) == 6
    for sku in ("teapot", "toaster", "lamp"):
        partners = {other for pair in pairs if sku in pair for other in pair - {sku}}
        assert len(partners) == 2
        assert partners < {"mug-0", "mug-1", "mug-2"}


def test_best_sellers_of_another_category_come_first() -> None:
    night = plan(SHOP, seller("category:mug", "lamp", per_new_sku=1), shown={"teapot": 1})
    assert of_policy(night, "best_sellers") == [
        pair for pair in of_policy(night, "best_sellers") if "toaster" in pair
    ]
    mugs = [concept("new", 9, noun="mug"), *SHOP]
    seen = {c.sku: 1 for c in SHOP}
    night = plan(mugs, seller("category:mug", "lamp", per_new_sku=1), shown=seen)
    assert night.jobs == ()  # a product of the list needs no best-seller beside it
    night = plan(mugs, seller("mug-0", "lamp", per_new_sku=1), shown=seen)
    assert of_policy(night, "best_sellers") == [frozenset(("new", "lamp"))]


def test_too_many_new_products_are_cut_the_last_learned_first() -> None:
    night = plan(SHOP, seller("mug-0", per_new_sku=1, max_pictures=2))
    assert of_policy(night, "best_sellers") == [
        frozenset(("lamp", "mug-0")),
        frozenset(("toaster", "mug-0")),
    ]
    assert night.notes == (
        "best_sellers: 4 of 6 pairs left out (max_pictures 2); the products learned last came "
        "first",
    )


def test_a_product_learned_anew_is_not_new() -> None:
    seen = {c.sku: 1 for c in SHOP}
    again = [*SHOP[:-1], replace(SHOP[-1], task=99)]
    assert plan(again, seller("mug-0"), shown=seen).jobs == ()


def test_a_best_seller_that_is_not_learned_is_a_note() -> None:
    night = plan(SHOP, seller("mug-0", "GONE"), shown={c.sku: 1 for c in SHOP})
    assert "best_sellers: nothing learned for GONE in collection 'kitchen'" in night.notes
    assert not plan(SHOP, seller("mug-0", "GONE"), elsewhere={"GONE"}).notes


# --- coverage ------------------------------------------------------------------------


def covered(images: int, top_up: str = "singles", **policies: Any) -> Any:
    return policy(coverage={"images": images, "nights": 7, "top_up": top_up}, **policies)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 5),
    top_up=st.sampled_from(["singles", "pairs"]),
    rule=st.sampled_from(["any", "same_category", "cross_category"]),
    shown=st.dictionaries(st.sampled_from([c.sku for c in SHOP]), st.integers(0, 6)),
    pairs=st.integers(0, 4),
)
def test_every_product_reaches_its_number_and_nothing_is_made_beyond_it(
    images: int, top_up: str, rule: str, shown: dict[str, int], pairs: int
) -> None:
    night = plan(SHOP, covered(images, top_up, pairs=pairs, pair_rule=rule), shown=shown)
    had = Counter({c.sku: shown.get(c.sku, 0) for c in SHOP})
    had.update(sku for job in night.jobs for sku in job.skus)
    assert all(had[c.sku] >= images for c in SHOP)
    extra = [job for job in night.jobs if job.policy == "coverage"]
    assert all(had[sku] == images for job in extra for sku in job.skus)
    category = {c.sku: c.category or c.class_noun for c in SHOP}
    for job in extra:
        kinds = {category[sku] for sku in job.skus}
        assert len(job.skus) == 1 or top_up == "pairs"
        assert len(job.skus) == 1 or rule == "any" or (len(kinds) == 1) == (rule == "same_category")


def test_topping_up_by_pairs_makes_fewer_pictures() -> None:
    assert len(plan(concepts(6), covered(2)).jobs) == 12
    assert len(plan(concepts(6), covered(2, "pairs")).jobs) == 6


def test_pictures_of_earlier_nights_count() -> None:
    shown = {"00000": 1, "00001": 2, "00002": 9}
    night = plan(concepts(4), covered(2), shown=shown)
    assert Counter(job.skus[0] for job in night.jobs) == {"00000": 1, "00003": 2}


def test_a_top_up_picture_is_the_one_that_more_singles_would_make() -> None:
    skus = concepts(3)
    topped = plan(skus, covered(3, singles_per_sku=1))
    assert ids(topped) == ids(plan(skus, policy(singles_per_sku=3)))


def test_a_short_budget_goes_to_what_lacks_pictures_the_newest_first() -> None:
    skus = concepts(6)
    generation = covered(1, singles_per_sku=2).model_copy(update={"budget": images(4)})
    first = plan(skus, generation)
    assert [job.skus[0] for job in first.jobs] == ["00005", "00004", "00003", "00002"]
    assert first.notes[-1] == (
        "coverage: 2 product(s) stay below 1 pictures in 7 nights: 00000, 00001; they come "
        "first next time"
    )
    shown = Counter(job.skus[0] for job in first.jobs)
    second = plan(skus, generation, DAY + timedelta(days=1), shown=shown)
    assert [job.skus[0] for job in second.jobs][:2] == ["00001", "00000"]
    assert not any("stay below" in note for note in second.notes)


def test_a_budget_that_is_always_short_still_shows_everything_in_a_week() -> None:
    skus = concepts(30)
    generation = covered(1, singles_per_sku=2, pairs=8).model_copy(update={"budget": images(6)})
    made: list[Counter[str]] = []
    for offset in range(7):
        shown = sum(made, Counter[str]())
        night = plan(skus, generation, DAY + timedelta(days=offset), shown=shown)
        made.append(Counter(sku for job in night.jobs for sku in job.skus))
    assert set(sum(made, Counter[str]())) == {c.sku for c in skus}


def test_coverage_comes_first_across_collections() -> None:
    generation = policy(singles_per_sku=2)
    old = draw(concepts(4), generation, collection="old")
    new = draw([concept(f"n{i}", i) for i in range(2)], generation, collection="new")
    shown = {c.sku: 5 for c in concepts(4)}
    night = join_plans(DAY, [old, new], images(4), coverage=CoverageSettings(images=2), shown=shown)
    assert [job.collection for job in night.jobs] == ["new"] * 4


# --- what stays as it was ------------------------------------------------------------


def test_the_policies_leave_what_others_draw_alone() -> None:
    plain = policy(singles_per_sku=2, pairs=5)
    tea = {"name": "tea", "items": ["category:mug", "teapot"]}
    rich = crossed(
        tea,
        singles_per_sku=2,
        pairs=5,
        best_sellers={"items": ["lamp"]},
        coverage={"images": 9},
    )
    assert ids(plan(SHOP, plain)) < ids(plan(SHOP, rich))


def test_one_product_more_leaves_the_best_seller_pairs_of_others_alone() -> None:
    generation = seller("mug-0", "mug-1", "mug-2", per_new_sku=1)
    more = [*SHOP, concept("kettle", 7, "kitchen", "kettle")]
    assert ids(plan(SHOP, generation)) < ids(plan(more, generation))


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_order_of_the_input_does_not_matter(data: st.DataObject) -> None:
    tea = {"name": "tea", "items": ["category:mug", "teapot", "lamp"]}
    generation = crossed(
        tea,
        pairs=2,
        best_sellers={"items": ["category:kitchen"]},
        coverage={"images": 4, "top_up": "pairs"},
    )
    shuffled: list[Concept] = data.draw(st.permutations(SHOP))
    assert plan(shuffled, generation) == plan(SHOP, generation)


def test_a_pair_that_two_policies_ask_for_is_two_pictures_in_two_scenes() -> None:
    pair = [concept("a", 0), concept("b", 1)]
    night = plan(pair, crossed({"name": "x", "items": ["a", "b"]}, pictures=1, pairs=1))
    assert {job.policy for job in night.jobs} == {"pairs", "cross_sell/x"}
    assert len({job.template for job in night.jobs}) == len(ids(night)) == 2


def test_a_policy_renames_nothing() -> None:
    pair = [concept("a", 0), concept("b", 1)]
    free = plan(pair, policy(pairs=1))
    listed = plan(pair, crossed({"name": "x", "items": ["a", "b"]}, pictures=1))
    assert ids(free) == ids(listed)
    assert free.plan_hash != listed.plan_hash


@pytest.mark.parametrize(("own", "expected"), [(None, "blurry"), ("", ""), ("people", "people")])
def test_a_scene_may_steer_away_from_something_else(own: str | None, expected: str) -> None:
    generation = policy(singles_per_sku=1)
    scene = generation.scenes[0].model_copy(update={"negative_prompt": own})
    generation = generation.model_copy(update={"scenes": (scene,), "negative_prompt": "blurry"})
    assert [job.negative_prompt for job in plan(concepts(1), generation).jobs] == [expected]
