"""A product whose folder is gone leaves the head, the plans and the counts, and may come back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog_pipeline.catalog.index import mark_learned
from catalog_pipeline.cli import app
from catalog_pipeline.errors import CatalogError, ConflictError, EmptyListingError
from catalog_pipeline.records import IndexRow, SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.keys import anchors_key
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.catalog.retire import RetireOutcome, retire_concepts
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.plan_night import find_plan, plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.upkeep.status import collect_status
from tests.workflows.painted_night import DAY, Studio

run = CliRunner().invoke
SKUS = ("mug", "mug-2", "00123")


@pytest.fixture
def studio(make_settings: Callable[..., Settings], make_photo: Callable[..., Path]) -> Studio:
    """Three products: folders, index rows, concepts, checkpoints, and a planned night."""
    settings = make_settings(catalog={"settle_seconds": 0, "retire_fraction_limit": 1})
    made = Studio(settings).configured(steps=2)
    for number, sku in enumerate(SKUS):
        for photo in range(3):
            make_photo(settings.catalog_root / sku / f"{photo}.png", seed=10 * number + photo)
    refresh_index(made.home)
    made.learn(*SKUS)
    home = made.home
    for sku in SKUS:
        content = row_of(home, sku).content_hash
        home.index.update(lambda rows, sku=sku, content=content: mark_learned(rows, sku, content))
        home.adapters("default").write_staging(f"{sku}-0123.safetensors", b"half learned")
    plan_night(made.home, DAY)
    return made


def row_of(home: Home, sku: str) -> IndexRow:
    return next(row for row in home.index.read() if row.sku == sku)


def learned(studio: Studio) -> set[str]:
    current = studio.home.adapters("default").current()
    return {concept.sku for concept in current.concepts} if current else set()


def planned(studio: Studio) -> set[str]:
    plan = find_plan(studio.home, DAY)
    return {sku for job in plan.jobs for sku in job.skus} if plan else set()


def vanish(studio: Studio, sku: str) -> Path:
    aside = studio.settings.home / f"aside-{sku}"
    shutil.move(studio.settings.catalog_root / sku, aside)
    return aside


def retire(studio: Studio, *skus: str, wait: float = 5.0) -> list[RetireOutcome]:
    chosen = list(skus) or None
    return list(retire_concepts(studio.home, chosen, today=DAY, lease_wait_seconds=wait))


def test_a_vanished_product_leaves_head_checkpoints_and_plans(studio: Studio) -> None:
    home = studio.home
    store = home.adapters("default")
    before = store.current()
    assert before is not None
    for sku in SKUS:
        home.objects.put(anchors_key(sku), b"{}")
    assert retire(studio) == []
    vanish(studio, "mug")
    refresh_index(studio.home)
    (outcome,) = retire(studio)
    assert (outcome.sku, outcome.reason) == ("mug", "")
    assert home.objects.list("catalog/anchors/") == sorted(map(anchors_key, ("mug-2", "00123")))
    after = store.current()
    assert after is not None
    assert outcome.version == after.version
    assert after.parent == before.version
    assert learned(studio) == planned(studio) == {"mug-2", "00123"}
    assert after.parts.keys() == before.parts.keys() - {"concept/mug", "memory/mug"}
    assert after.memory_version != before.memory_version
    # The other product's checkpoint begins with this one's name.
    assert store.staging_names() == ["00123-0123.safetensors", "mug-2-0123.safetensors"]
    assert row_of(home, "mug").status is SkuStatus.RETIRED
    # The concept's earlier version stays, weights and all.
    assert store.read(before.version) == before
    assert store.read_part(before.parts["concept/mug"])
    assert collect_status(studio.home)["collections"]["default"]["concepts"] == 2
    assert retire(studio) == []


def test_a_retired_product_is_rendered_no_more(studio: Studio) -> None:
    studio.render()
    publish_manifest(studio.home, DAY)
    vanish(studio, "mug")
    refresh_index(studio.home)
    retire(studio)
    studio.painted()
    studio.render()
    publish_manifest(studio.home, DAY)
    rows = studio.home.archive.read_day(DAY)
    assert {sku for row in rows if not row.superseded for sku in row.skus} == {"mug-2", "00123"}
    assert all(row.superseded for row in rows if "mug" in row.skus)
    assert any("mug" in row.skus for row in rows)


def test_returning_photos_are_learned_anew(studio: Studio) -> None:
    aside = vanish(studio, "mug")
    refresh_index(studio.home)
    retire(studio)
    shutil.move(aside, studio.settings.catalog_root / "mug")
    report = refresh_index(studio.home)
    assert report.added == ("mug",)
    assert row_of(studio.home, "mug").status is SkuStatus.NEW
    studio.learn("mug")
    assert retire(studio) == []
    assert learned(studio) == set(SKUS)


def test_photos_that_return_before_the_clean_up_change_nothing(studio: Studio) -> None:
    aside = vanish(studio, "mug")
    refresh_index(studio.home)
    shutil.move(aside, studio.settings.catalog_root / "mug")
    refresh_index(studio.home)
    assert retire(studio) == []
    assert learned(studio) == set(SKUS)
    assert row_of(studio.home, "mug").status is SkuStatus.LEARNED


def test_photos_that_return_during_the_clean_up_stay(studio: Studio) -> None:
    vanish(studio, "mug")
    refresh_index(studio.home)
    outcomes = retire_concepts(studio.home, ["mug"], today=DAY)
    home = studio.home

    def returned(rows: list[IndexRow]) -> list[IndexRow]:
        return [replace(r, status=SkuStatus.LEARNED) if r.sku == "mug" else r for r in rows]

    original = Home.collections

    def collections_after_the_return(self: Home) -> list[str]:
        home.index.update(returned)
        return original(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Home, "collections", collections_after_the_return)
        (outcome,) = outcomes
    assert outcome.version == ""
    assert learned(studio) == set(SKUS)


def test_named_products_are_looked_for_first(studio: Studio) -> None:
    with pytest.raises(CatalogError, match="mug still has its folder in"):
        retire(studio, "mug")
    with pytest.raises(CatalogError, match="does not know nothing"):
        retire(studio, "mug", "nothing")
    vanish(studio, "mug")
    (outcome,) = retire(studio, "mug")  # the index has not been refreshed
    assert outcome.done
    assert row_of(studio.home, "mug").status is SkuStatus.RETIRED
    assert learned(studio) == {"mug-2", "00123"}
    (again,) = retire(studio, "mug")
    assert again == RetireOutcome("mug")


def test_a_missing_catalog_retires_nobody(studio: Studio) -> None:
    shutil.rmtree(studio.settings.catalog_root)
    with pytest.raises(CatalogError, match="no catalog at"):
        retire(studio, "mug")
    assert learned(studio) == set(SKUS)


def test_the_last_product_leaves_an_empty_head_and_no_plan(studio: Studio) -> None:
    for sku in SKUS:
        vanish(studio, sku)
    outcomes = retire(studio, *SKUS)
    assert [outcome.reason for outcome in outcomes] == ["", "", ""]
    assert learned(studio) == set()
    assert find_plan(studio.home, DAY) is None
    store = studio.home.adapters("default")
    assert len(store.history()) == 4
    assert store.references(store.version_names())


def test_the_only_product_goes_by_its_name_alone(
    make_settings: Callable[..., Settings], make_photo: Callable[..., Path]
) -> None:
    made = Studio(make_settings(catalog={"settle_seconds": 0}))
    for photo in range(3):
        make_photo(made.settings.catalog_root / "mug" / f"{photo}.png", seed=photo)
    refresh_index(made.home)
    vanish(made, "mug")
    make_photo(made.settings.catalog_root / "vase" / "0.png", seed=9)
    with pytest.raises(EmptyListingError, match=r"1 of 1 .*\(mug\).*`catalog-pipeline retire SKU"):
        refresh_index(made.home)
    assert retire(made, "mug") == [RetireOutcome("mug")]
    assert [row.sku for row in refresh_index(made.home).rows] == ["mug", "vase"]


def test_past_nights_keep_their_plans(studio: Studio) -> None:
    vanish(studio, "mug")
    refresh_index(studio.home)
    outcomes = list(retire_concepts(studio.home, today=DAY + timedelta(days=1)))
    assert len(outcomes) == 1
    assert "mug" in planned(studio)


@pytest.mark.parametrize("method", ["publish", "promote", "delete_staging"])
def test_a_clean_up_that_died_is_finished_by_the_next(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    class PowerCutError(BaseException):
        pass

    def cut(*_: object, **__: object) -> None:
        raise PowerCutError

    vanish(studio, "mug")
    refresh_index(studio.home)
    with monkeypatch.context() as patched:
        patched.setattr(AdapterStore, method, cut)
        with pytest.raises(PowerCutError):
            retire(studio)
    assert learned(studio) == set(SKUS)
    (outcome,) = retire(studio)
    assert outcome.reason == ""
    assert learned(studio) == planned(studio) == {"mug-2", "00123"}
    assert retire(studio) == []


def test_a_learner_that_holds_the_collection_is_waited_for(studio: Studio) -> None:
    vanish(studio, "mug")
    refresh_index(studio.home)
    store = studio.home.adapters("default")
    with store.lease(timeout_seconds=1):
        (outcome,) = retire(studio, wait=0.0)
    assert "is held by process" in outcome.reason
    assert learned(studio) == set(SKUS)
    assert retire(studio)[0].reason == ""


def test_a_run_that_was_overtaken_cannot_bring_the_product_back(studio: Studio) -> None:
    store = studio.home.adapters("default")
    parent = store.current()
    assert parent is not None
    with store.lease(timeout_seconds=1) as stale:
        pass
    vanish(studio, "mug")
    refresh_index(studio.home)
    retire(studio)
    with pytest.raises(ConflictError, match="newest fence"):
        store.promote(parent.version, expected=parent.version, fence=stale.fence)
    assert "mug" not in learned(studio)


def test_what_a_late_learner_noted_is_forgotten_too(studio: Studio) -> None:
    home = studio.home
    vanish(studio, "mug")
    refresh_index(studio.home)
    retire(studio)
    content = row_of(home, "mug").content_hash
    home.index.update(lambda rows: mark_learned(rows, "mug", content))
    (outcome,) = retire(studio)
    assert outcome.done == ()
    assert row_of(home, "mug").learned_hash == ""


def test_the_command_says_what_went(studio: Studio) -> None:
    options = ["--config", str(studio.settings.config_dir), "--home", str(studio.settings.home)]
    (studio.settings.config_dir / "catalogs.yaml").write_text("settle_seconds: 0\n")
    nothing = run(app, ["retire", *options])
    assert (nothing.exit_code, nothing.stdout.partition(":")[0]) == (0, "nothing to retire")
    refused = run(app, ["retire", "mug", *options])
    assert refused.exit_code == 1
    assert "still has its folder" in refused.stderr
    vanish(studio, "mug")
    done = run(app, ["retire", "mug", *options])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("retired   mug: checkpoint mug-0123.safetensors, version ")


def test_the_command_says_what_moved_and_the_index_what_was_renamed(studio: Studio) -> None:
    options = ["--config", str(studio.settings.config_dir), "--home", str(studio.settings.home)]
    (studio.settings.config_dir / "catalogs.yaml").write_text("settle_seconds: 0\n")
    root = studio.settings.catalog_root
    shutil.move(root / "mug", root / "cup")
    indexed = run(app, ["index", *options])
    assert "renamed: cup has the same photos and card as mug, which is gone" in indexed.stdout
    studio.learn("mug-2", collection="spring")
    done = run(app, ["retire", *options])
    assert done.exit_code == 0, done.output
    moved = [line for line in done.stdout.splitlines() if line.startswith("moved")]
    assert len(moved) == 1
    assert moved[0].startswith("moved     mug-2: default serves it, version ")
    assert moved[0].endswith(" of spring without it")
