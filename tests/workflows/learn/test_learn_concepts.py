"""The learning workflow on real stores and a tiny real diffusion model."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from catalog_pipeline.cli.progress import LineProgress
from catalog_pipeline.errors import CatalogError, LockTimeoutError
from catalog_pipeline.evaluation.palettes import PALETTE_BINS
from catalog_pipeline.records import SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.loss_curves import read_curve
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.upkeep.versions import rollback
from tests.workflows.tiny_catalog import (
    elsewhere,
    learn_all,
    statuses,
    tiny_settings,
    with_learning,
    write_photos,
)


@pytest.fixture
def tiny(make_settings, tiny_model_folder) -> Settings:
    return tiny_settings(make_settings, tiny_model_folder)


def test_learns_new_skus_then_does_nothing_then_relearns_the_changed_one(tiny):
    write_photos(tiny, "A", 1)
    write_photos(tiny, "00123", 2)
    first = learn_all(tiny)
    assert {sku: o.status for sku, o in first.items()} == {"00123": "learned", "A": "learned"}
    assert set(statuses(tiny).values()) == {SkuStatus.LEARNED}
    store = open_home(tiny).adapters("default")
    head = store.current()
    assert head is not None
    assert {c.sku for c in head.concepts} == {"A", "00123"}
    kinds = ("concept", "memory", "curve")
    assert set(head.parts) == {f"{kind}/{sku}" for kind in kinds for sku in ("A", "00123")}
    assert first["A"].contact_sheet_png.startswith(b"\x89PNG")
    assert first["A"].loss_curve[-1][0] == 6
    assert read_curve(store, head, "A") == list(first["A"].loss_curve)
    assert learn_all(tiny) == {}
    asked = learn_all(tiny, ["A"])
    assert asked["A"].status == "unchanged"
    assert store.current() == head
    write_photos(tiny, "A", 7)
    again = learn_all(tiny)
    assert {sku: o.status for sku, o in again.items()} == {"A": "learned"}
    changed = store.current()
    assert changed is not None
    assert changed.parts["concept/00123"] == head.parts["concept/00123"]
    assert changed.parts["concept/A"] != head.parts["concept/A"]
    assert changed.parent == head.version
    assert store.staging_names() == []


def test_memory_holds_features_and_prompts_and_no_pixels(knows_a):
    store = open_home(knows_a("per_concept")).adapters("default")
    head = store.current()
    assert head is not None
    entry = decode_memory(store.read_part(head.parts["memory/A"]))
    assert entry.features.shape == (3, 1280)
    assert entry.prompts
    assert entry.palette is not None
    assert entry.palette.shape == (PALETTE_BINS,)
    assert len(store.read_part(head.parts["memory/A"])) < 3 * 1280 * 4 + 2000


def test_a_card_change_renames_without_training(knows_a):
    tiny = knows_a("per_concept")
    store = open_home(tiny).adapters("default")
    before = store.current()
    (tiny.catalog_root / "A" / "sku.yaml").write_text(
        "class_noun: mug\nname: Blue mug\nheight_cm: 9.5\nwidth_cm: 8\ndepth_cm: 8\n"
        "mode: exact\nanchor_photos: ['0.png']\n"
    )
    outcome = learn_all(tiny)["A"]
    after = store.current()
    assert before is not None
    assert after is not None
    assert outcome.status == "unchanged"
    assert after.concepts[0].name == "Blue mug"
    assert after.parts == before.parts
    assert statuses(tiny) == {"A": SkuStatus.LEARNED}


def test_a_folder_that_was_corrected_after_the_last_listing_is_learned_as_it_is_now(tiny):
    write_photos(tiny, "A", 1)
    broken = tiny.catalog_root / "A" / "2.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    assert learn_all(tiny)["A"].status == "failed"
    broken.write_bytes(whole)
    (outcome,) = learn_concepts(open_home(tiny), ["A"])
    assert outcome.status == "learned"
    (row,) = open_home(tiny).index.read()
    assert (row.status, row.reason) == (SkuStatus.LEARNED, "")
    (listed,) = refresh_index(open_home(tiny)).rows
    assert (listed.status, listed.content_hash) == (SkuStatus.LEARNED, listed.learned_hash)


def test_a_bad_sku_fails_alone_and_the_head_keeps_the_rest(tiny):
    write_photos(tiny, "A", 1)
    write_photos(tiny, "B", 2)
    write_photos(tiny, "C", 3)
    refresh_index(open_home(tiny))
    for photo in (tiny.catalog_root / "B").glob("*.png"):
        photo.write_bytes(b"not a picture")
    outcomes = {o.sku: o for o in learn_concepts(open_home(tiny))}
    assert {s: o.status for s, o in outcomes.items()} == {
        "A": "learned",
        "B": "failed",
        "C": "learned",
    }
    assert "0.png" in outcomes["B"].reason
    assert statuses(tiny)["B"] is SkuStatus.FAILED


def test_a_store_in_trouble_is_no_fault_of_the_product(tiny, monkeypatch):
    write_photos(tiny, "A", 1)
    lease = AdapterStore.lease

    def taken(*_, **__):
        raise LockTimeoutError("another process holds the collection")

    monkeypatch.setattr(AdapterStore, "lease", taken)
    outcome = learn_all(tiny)["A"]
    assert outcome.status == "failed"
    assert "another process" in outcome.reason
    assert statuses(tiny)["A"] is SkuStatus.NEW
    monkeypatch.setattr(AdapterStore, "lease", lease)
    assert learn_all(tiny)["A"].status == "learned"


def test_a_poor_candidate_is_not_promoted_but_shown(tiny):
    write_photos(tiny, "A", 1)
    outcome = learn_all(with_learning(tiny, gate_min_fidelity_share=0.99))["A"]
    assert outcome.status == "failed"
    assert "expected at least 99%" in outcome.reason
    store, objects = open_home(tiny).adapters("default"), open_home(tiny).objects
    assert store.head() is None
    assert store.staging_names() == []
    (picture,) = (key for key in objects.list("collections/default/quarantine/") if "png" in key)
    assert objects.read(picture).data == outcome.contact_sheet_png
    assert objects.uri(picture) in outcome.reason


def test_rollback_moves_the_head_and_learning_goes_on_from_there(knows_a):
    tiny = knows_a("per_concept")
    store = open_home(tiny).adapters("default")
    first = store.current()
    write_photos(tiny, "B", 2)
    learn_all(tiny)
    assert store.current() != first
    rollback(open_home(tiny), first.version, None)  # type: ignore[union-attr]
    assert [c.sku for c in store.current().concepts] == ["A"]  # type: ignore[union-attr]
    outcome = learn_all(tiny, ["B"])["B"]
    assert outcome.status == "learned"
    assert [c.sku for c in store.current().concepts] == ["A", "B"]  # type: ignore[union-attr]


def test_unknown_skus_and_an_empty_index_say_what_to_do(tiny):
    with pytest.raises(CatalogError, match="catalog-pipeline index"):
        list(learn_concepts(open_home(tiny)))
    write_photos(tiny, "A", 1)
    refresh_index(open_home(tiny))
    with pytest.raises(CatalogError, match="NOPE"):
        list(learn_concepts(open_home(tiny), ["NOPE"]))


def test_sigkill_in_mid_learning_resumes_to_the_same_version(tiny, tmp_path, killed_learning):
    write_photos(tiny, "A", 1)
    write_photos(tiny, "B", 2)
    other = elsewhere(tiny, tmp_path / "undisturbed")
    want = {sku: o.version for sku, o in learn_all(other).items()}
    refresh_index(open_home(tiny))
    killed_learning(tiny, 9)
    store = open_home(tiny).adapters("default")
    assert [c.sku for c in store.current().concepts] == ["A"]  # type: ignore[union-attr]
    assert len(store.staging_names()) == 1
    lines = io.StringIO()
    again = learn_concepts(open_home(tiny), progress=LineProgress(lines))
    resumed = {o.sku: o for o in again}
    told = lines.getvalue().splitlines()
    assert told[0] == "learn B: resumed at 2 of 6"
    assert told[-1].startswith("learn B: 6/6 in ")
    assert {sku: o.version for sku, o in resumed.items()} == {"B": want["B"]}
    assert resumed["B"].loss_curve[-1][0] == 6
    assert replace(resumed["B"], seconds=0.0).status == "learned"
