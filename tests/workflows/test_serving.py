"""A product whose card names another collection: one head serves it, before and after the move."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.errors import LockTimeoutError
from catalog_pipeline.records import IndexRow, SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.catalog.retire import retire_concepts
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.serving import (
    drop_elsewhere,
    read_heads,
    served_twice,
    serving_collections,
)
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from catalog_pipeline.workflows.upkeep.export_concept import _find
from tests.builders import make_adapter_version, make_concept, make_index_row
from tests.workflows.painted_night import DAY, Studio


@pytest.fixture
def studio(settings: Settings) -> Studio:
    """``mug`` and ``cup`` learned in ``old``; ``mug`` and ``jar`` in ``new``, as its card says."""
    made = Studio(settings).configured(steps=2)
    made.learn("mug", "cup", collection="old")
    made.learn("mug", "jar", collection="new")
    note(made.home, mug="new", cup="old", jar="new")
    return made


def note(home: Home, **cards: str) -> None:
    """Index rows of learned products whose cards name these collections."""
    hashes = {"content_hash": "h", "learned_hash": "h", "status": SkuStatus.LEARNED}

    def change(rows: Sequence[IndexRow]) -> list[IndexRow]:
        new = [make_index_row(sku, collection=name, **hashes) for sku, name in cards.items()]
        return [*(row for row in rows if row.sku not in cards), *new]

    home.index.update(change)


def known(home: Home) -> dict[str, set[str]]:
    heads = read_heads(home).items()
    return {name: {concept.sku for concept in head.concepts} for name, head in heads}


def rendered_from(home: Home, sku: str) -> set[str]:
    return {job.collection for job in plan_night(home, DAY).jobs if sku in job.skus}


def doubts(home: Home) -> list[str]:
    results = [r for r in run_doctor(home) if r.what.startswith("collections: ")]
    return [f"{result.what}; {result.hint}" for result in results]


def test_a_night_and_an_export_take_the_collection_that_the_card_names(studio: Studio) -> None:
    home = studio.home
    assert rendered_from(home, "mug") == {"new"}
    assert _find(home, ["mug"], None)[1].collection == "new"
    note(home, mug="old")  # the card is put back
    assert rendered_from(home, "mug") == {"old"}
    assert _find(home, ["mug"], None)[1].collection == "old"
    assert _find(home, ["mug"], "new")[1].collection == "new"


def test_until_the_new_collection_has_learned_it_the_old_one_serves(studio: Studio) -> None:
    home = studio.home
    note(home, cup="new", jar="third")
    assert rendered_from(home, "cup") == {"old"}
    assert rendered_from(home, "jar") == {"new"}
    assert drop_elsewhere(home, "cup", "new") == drop_elsewhere(home, "jar", "third") == []
    assert known(home) == {"old": {"mug", "cup"}, "new": {"mug", "jar"}}


@pytest.mark.parametrize("by", ["retire", "doctor"])
def test_what_two_heads_know_is_told_and_mended(studio: Studio, by: str) -> None:
    home = studio.home
    (doubt,) = doubts(home)
    assert doubt == (
        "collections: mug is known by new and by old; its card names new; nights render it from "
        "new alone; `catalog-pipeline doctor --repair` takes it out of the others"
    )
    if by == "retire":
        (outcome,) = retire_concepts(home, today=DAY)
        assert (outcome.sku, outcome.serving, outcome.reason) == ("mug", "new", "")
    else:
        done = [r.what for r in run_doctor(home, repair=True) if r.level == "repaired"]
        (repair,) = (what for what in done if not what.startswith("learning log: "))
        assert repair.startswith("collections: mug is served by new; version ")
    assert known(home) == {"old": {"cup"}, "new": {"mug", "jar"}}
    assert doubts(home) == []
    assert list(retire_concepts(home, today=DAY)) == []
    home.adapters("old").rollback(home.adapters("old").history()[0].version)
    assert len(doubts(home)) == 1
    assert rendered_from(home, "mug") == {"new"}


def test_a_card_that_names_neither_head_is_left_to_a_person(studio: Studio) -> None:
    note(studio.home, mug="third")
    (doubt,) = doubts(studio.home)
    assert "its card names third; nights render it from new alone" in doubt
    assert "`catalog-pipeline learn mug`" in doubt
    assert list(retire_concepts(studio.home, today=DAY)) == []
    assert rendered_from(studio.home, "mug") == {"new"}


def test_a_collection_that_is_learning_is_left_for_the_next_time(studio: Studio) -> None:
    home = studio.home
    with home.adapters("old").lease(timeout_seconds=1):
        with pytest.raises(LockTimeoutError, match="is held by"):
            drop_elsewhere(home, "mug", "new", lease_wait_seconds=0.0)
        (outcome,) = retire_concepts(home, today=DAY, lease_wait_seconds=0.0)
        assert "is held by" in outcome.reason
        kept = [r.what for r in run_doctor(home, repair=True) if r.level == "kept"]
        assert any("mug" in what and "is held by" in what for what in kept)
    assert drop_elsewhere(home, "mug", "new") != []


def test_a_card_put_back_while_the_old_head_is_waited_for_keeps_it(studio: Studio) -> None:
    note(studio.home, mug="old")
    assert drop_elsewhere(studio.home, "mug", "new") == []
    assert known(studio.home)["old"] == {"mug", "cup"}


def test_a_retired_product_is_no_moved_one(studio: Studio) -> None:
    home = studio.home
    gone = make_index_row("mug", collection="new", status=SkuStatus.RETIRED)
    home.index.update(lambda rows: [*(row for row in rows if row.sku != "mug"), gone])
    assert served_twice(home) == {}
    (outcome,) = retire_concepts(home, today=DAY)
    assert len(outcome.done) == 2
    assert known(home) == {"old": {"cup"}, "new": {"jar"}}


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.dictionaries(st.sampled_from("abc"), st.sets(st.sampled_from("xyz"))),
    st.dictionaries(st.sampled_from("xyz"), st.sampled_from("abcd")),
)
def test_one_collection_serves_a_product_and_knows_it(
    concepts: dict[str, set[str]], cards: dict[str, str]
) -> None:
    heads = {
        name: make_adapter_version(*map(make_concept, skus)) for name, skus in concepts.items()
    }
    rows = [make_index_row(sku, collection=name) for sku, name in cards.items()]
    serving = serving_collections(rows, heads)
    assert set(serving) == set().union(*concepts.values())
    for sku, name in serving.items():
        assert sku in concepts[name]
        if sku in concepts.get(cards.get(sku, ""), ()):
            assert name == cards[sku]
