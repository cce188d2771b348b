"""What learning notes in the audit log, and a removal on a real, tiny model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catalog_pipeline.errors import StoreError
from catalog_pipeline.records import SHARED, Pixels, SkuStatus, concept_part
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.audit_chain import verify_chain
from catalog_pipeline.stores.audit_log import AUDIT_PREFIX, AuditLog
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.upkeep.audit_entries import matching_entries
from catalog_pipeline.workflows.upkeep.removal_search import search_home
from catalog_pipeline.workflows.upkeep.remove_concept import plan_removals, remove_concepts
from tests.workflows.painted_night import PowerCutError
from tests.workflows.tiny_catalog import (
    LEARNING,
    elsewhere,
    learn_all,
    statuses,
    tiny_settings,
    with_learning,
    write_photos,
)

MakeSettings = Callable[..., Settings]
SHARED_SLOT = {"adapter": {"rank": 2, "slots": "shared"}}


@pytest.fixture
def settings(make_settings: MakeSettings, tiny_model_folder: Path) -> Settings:
    return tiny_settings(make_settings, tiny_model_folder)


def noted(settings: Settings, sku: str) -> list[str]:
    return [entry.action for entry in matching_entries(open_home(settings), sku=sku)]


def test_learning_notes_what_is_served_and_what_was_learned(settings: Settings) -> None:
    write_photos(settings, "A")
    outcome = learn_all(settings)["A"]
    assert noted(settings, "A") == ["promote", "learn"]
    promote, learn = matching_entries(open_home(settings))
    assert promote.version == learn.version == outcome.version
    assert promote.facts == {"collection": "default", "from": ""}
    assert learn_all(settings, ["A"])["A"].status == "unchanged"
    assert noted(settings, "A") == ["promote", "learn"]


@pytest.mark.parametrize("entry", ["promote", "learn"])
def test_an_entry_that_a_kill_came_before_is_noted_by_the_next_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    append = AuditLog.append

    def cut(self: AuditLog, action: str, *arguments: object, **options: object) -> object:
        if action == entry:
            raise PowerCutError
        return append(self, action, *arguments, **options)  # type: ignore[arg-type]

    write_photos(settings, "A")
    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "append", cut)
        with pytest.raises(PowerCutError):
            learn_all(settings)
    head = open_home(settings).adapters("default").current()
    assert head is not None
    assert head.concept("A")
    assert entry not in noted(settings, "A")
    assert learn_all(settings)["A"].status == "unchanged"
    assert set(noted(settings, "A")) == {"promote", "learn"}
    versions = {e.version for e in matching_entries(open_home(settings), sku="A")}
    assert versions == {head.version}
    assert len(open_home(settings).adapters("default").history()) == 1


def refuse_entries(patched: pytest.MonkeyPatch) -> None:
    create = LocalObjectStore.put_if_absent

    def refusing(self: LocalObjectStore, key: str, data: bytes) -> bool:
        if key.startswith(AUDIT_PREFIX):
            raise StoreError("no room")
        return create(self, key, data)

    patched.setattr(LocalObjectStore, "put_if_absent", refusing)


def test_a_log_that_is_refused_loses_no_training(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(settings, "A")
    with monkeypatch.context() as patched:
        refuse_entries(patched)
        outcome = learn_all(settings)["A"]
    assert outcome.status == "failed"
    assert "the audit log did not take the entry 'promote' of A" in outcome.reason
    assert statuses(settings)["A"] is SkuStatus.NEW
    assert learn_all(settings)["A"].status == "unchanged"
    assert statuses(settings)["A"] is SkuStatus.LEARNED
    assert noted(settings, "A") == ["promote", "learn"]


def test_a_refused_candidate_is_noted(settings: Settings) -> None:
    write_photos(settings, "A")
    strict = with_learning(settings, gate_min_fidelity_share=5.0)
    assert learn_all(strict)["A"].status == "failed"
    (entry,) = matching_entries(open_home(settings))
    assert (entry.action, entry.subject, entry.facts) == ("refuse", "A", {"collection": "default"})


def test_a_log_that_is_refused_keeps_no_other_product_from_its_turn(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, sku in enumerate("AB"):
        write_photos(settings, sku, seed=seed)
    strict = with_learning(settings, gate_min_fidelity_share=5.0)
    with monkeypatch.context() as patched:
        refuse_entries(patched)
        outcomes = learn_all(strict)
    assert set(outcomes) == {"A", "B"}
    for sku, outcome in outcomes.items():
        assert f"did not take the entry 'refuse' of {sku}" in outcome.reason
    assert set(statuses(settings).values()) == {SkuStatus.NEW}
    assert learn_all(strict, ["A"])["A"].status == "failed"
    assert noted(settings, "A") == ["refuse"]
    assert statuses(settings)["A"] is SkuStatus.FAILED


def drawn(settings: Settings, sku: str) -> list[Pixels]:
    """Pictures of a learned product, from what is stored."""
    from catalog_pipeline.workflows.learn.fidelity_gate import render_samples
    from catalog_pipeline.workflows.learn.learning_inputs import (
        StoredCollection,
        open_method,
        open_tools,
    )

    home = open_home(settings)
    store = home.adapters("default")
    version = store.current()
    assert version is not None
    concept = version.concept(sku)
    assert concept is not None
    tools = open_tools(settings)
    method = open_method(tools, settings.learning, home.objects)
    method.open(StoredCollection(store, version, learned=""))
    return render_samples(tools, method, concept, 2, 0)


def removed(home: Home, sku: str) -> None:
    shutil.rmtree(home.settings.catalog_root / sku)
    (outcome,) = remove_concepts(home, [sku], lease_wait_seconds=1.0)
    assert outcome.reason == ""
    assert outcome.searched is not None
    assert outcome.searched.named_in == ()


def test_a_removed_product_changes_no_bit_of_its_neighbours_pictures(settings: Settings) -> None:
    for seed, sku in enumerate(("aster-1", "beta-77")):
        write_photos(settings, sku, seed=seed)
    learn_all(settings)
    home = open_home(settings)
    store = home.adapters("default")
    head = store.current()
    assert head is not None
    weights = store.read_part(head.parts[concept_part("beta-77")])
    before = drawn(settings, "aster-1")
    removed(home, "beta-77")
    assert all(map(np.array_equal, before, drawn(settings, "aster-1")))
    files = [path for path in settings.home.rglob("*") if path.is_file()]
    assert all(weights[-64:] not in path.read_bytes() for path in files)
    assert learn_all(settings) == {}
    assert verify_chain(home.objects).problems == ()


def test_who_waits_while_a_product_is_removed_does_not_learn_it(settings: Settings) -> None:
    write_photos(settings, "beta-77")
    home = open_home(settings)
    refresh_index(home)
    (outcome,) = learn_concepts(
        home, ["beta-77"], on_photo_set=lambda _: removed(open_home(settings), "beta-77")
    )
    assert outcome.status == "failed"
    assert "was removed or retired while it waited" in outcome.reason
    assert search_home(home, "beta-77", ()).named_in == ()


def test_a_shared_slot_goes_back_to_where_it_had_not_seen_the_product(
    settings: Settings, tmp_path: Path
) -> None:
    shared = settings.model_copy(
        update={"learning": type(settings.learning).model_validate(LEARNING | SHARED_SLOT)}
    )
    for seed, sku in enumerate(("aster-1", "beta-77", "gamma-2")):
        write_photos(shared, sku, seed=seed)
    learn_all(shared)
    home = open_home(shared)
    store = home.adapters("default")
    first = store.history()[0]
    store.write_staging("gamma-2-0123456789abcdef.safetensors", b"goes on from the shared slot")
    shutil.move(shared.catalog_root / "beta-77", tmp_path / "aside")
    (plan,) = plan_removals(home, ["beta-77"])
    assert any("gamma-2 fall out" in line for line in plan.lines)
    shutil.move(tmp_path / "aside", shared.catalog_root / "beta-77")
    removed(home, "beta-77")
    assert home.adapters("default").current() == first
    assert [version.version for version in store.history()] == [first.version]
    assert store.staging_names() == []
    assert statuses(shared) == {"aster-1": SkuStatus.LEARNED, "gamma-2": SkuStatus.NEW}
    assert learn_all(shared)["gamma-2"].status == "learned"
    # To the bit what a collection has that never saw it.
    never = elsewhere(shared, tmp_path / "never")
    learn_all(never)
    heads = [open_home(each).adapters("default").current() for each in (shared, never)]
    assert heads[0] is not None
    assert heads[1] is not None
    assert heads[0].parts[SHARED] == heads[1].parts[SHARED]
    assert heads[0].parts == heads[1].parts
    assert search_home(home, "beta-77", ()).named_in == ()


@pytest.mark.slow
def test_the_first_product_of_a_shared_slot_takes_all_with_it(settings: Settings) -> None:
    shared = settings.model_copy(
        update={"learning": type(settings.learning).model_validate(LEARNING | SHARED_SLOT)}
    )
    for seed, sku in enumerate(("aster-1", "gamma-2")):
        write_photos(shared, sku, seed=seed)
    learn_all(shared)
    home = open_home(shared)
    removed(home, "aster-1")
    current = home.adapters("default").current()
    assert current is not None
    assert (current.concepts, dict(current.parts)) == ((), {})
    assert statuses(shared) == {"gamma-2": SkuStatus.NEW}
    assert learn_all(shared)["gamma-2"].status == "learned"
