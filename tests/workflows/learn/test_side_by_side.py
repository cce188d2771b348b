"""Tasks of one collection beside each other, on real stores and a tiny real diffusion model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from catalog_pipeline.errors import LockTimeoutError
from catalog_pipeline.records import AdapterVersion, LearnOutcome, SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.catalog.retire import retire_concepts
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.progress import SilentProgress
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from catalog_pipeline.workflows.upkeep.status import collect_status
from catalog_pipeline.workflows.upkeep.versions import rollback
from tests.workflows.tiny_catalog import elsewhere, learn_all, statuses, write_photos


class InTheMiddle(SilentProgress):
    """Calls ``action`` once, after the fourth of six steps: a checkpoint is written by then."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action
        self.done = 0
        self.calls = 0

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        self.done += count
        if self.done >= 4 and not self.calls:
            self.calls = 1
            self.action()


def learn_with(settings: Settings, sku: str, action: Callable[[], object]) -> LearnOutcome:
    """Learn ``sku`` and do ``action`` in the middle of its training."""
    middle = InTheMiddle(action)
    (outcome,) = learn_concepts(open_home(settings), [sku], progress=middle)
    assert middle.calls == 1
    return outcome


def store_of(settings: Settings) -> AdapterStore:
    return open_home(settings).adapters("default")


def head_of(settings: Settings) -> AdapterVersion:
    head = store_of(settings).current()
    assert head is not None
    return head


def listed(settings: Settings, *skus: str) -> Settings:
    for seed, sku in enumerate(skus, start=1):
        write_photos(settings, sku, seed)
    refresh_index(open_home(settings))
    return settings


def test_two_skus_of_one_collection_are_learned_at_once(knows_a, tmp_path):
    tiny = listed(knows_a("per_concept"), "A", "B", "C")
    other = elsewhere(tiny, tmp_path / "one-after-the-other")
    learn_all(other)
    inner: dict[str, LearnOutcome] = {}

    def learn_c() -> None:
        inner["C"] = next(learn_concepts(open_home(tiny), ["C"]))
        assert collect_status(open_home(tiny))["collections"]["default"]["learning"].keys() == {"B"}

    outer = learn_with(tiny, "B", learn_c)
    assert (outer.status, inner["C"].status) == ("learned", "learned")
    head, parts = head_of(tiny), head_of(other).parts
    assert [(c.sku, c.task) for c in head.concepts] == [("A", 1), ("C", 2), ("B", 3)]
    assert head.parent == inner["C"].version
    assert head.parts == parts
    assert store_of(tiny).staging_names() == store_of(tiny).claimed() == []
    assert set(statuses(tiny).values()) == {SkuStatus.LEARNED}
    assert [o.status for o in learn_concepts(open_home(tiny), ["B", "C"])] == ["unchanged"] * 2


def test_one_that_is_killed_beside_another_is_finished_by_a_rerun(
    knows_a, tmp_path, killed_learning
):
    tiny = listed(knows_a("per_concept"), "A", "B", "C")
    other = elsewhere(tiny, tmp_path / "undisturbed")
    learn_all(other)
    # The process that is killed is at B when it dies, and the outer one goes on.
    outer = learn_with(tiny, "C", lambda: killed_learning(tiny, 4, "learn B"))
    assert outer.status == "learned"
    assert [name.rpartition("-")[0] for name in store_of(tiny).staging_names()] == ["B"]
    again = {o.sku: o.status for o in learn_concepts(open_home(tiny))}
    assert again == {"B": "learned"}
    assert head_of(tiny).parts == head_of(other).parts
    assert len({c.sku for c in head_of(tiny).concepts}) == len(head_of(tiny).concepts) == 3


def test_what_was_rolled_back_meanwhile_is_not_published_over(knows_a):
    tiny = listed(knows_a("per_concept"), "A", "B", "C")
    before = head_of(tiny).version
    assert learn_all(tiny, ["C"])["C"].status == "learned"
    outcome = learn_with(tiny, "B", lambda: rollback(open_home(tiny), before))
    assert outcome.status == "failed"
    assert "was rolled back while B was learned" in outcome.reason
    assert head_of(tiny).version == before
    assert statuses(tiny)["B"] is SkuStatus.NEW
    # Its training was not for nothing: the checkpoint is taken up from the present head.
    again = learn_all(tiny, ["B"])["B"]
    assert (again.status, head_of(tiny).parent) == ("learned", before)


def test_a_claim_that_was_lost_publishes_nothing_twice(knows_a, monkeypatch):
    tiny = listed(knows_a("per_concept"), "A", "B")
    monkeypatch.setattr(AdapterStore, "claim", lambda *_, **__: nullcontext())
    inner: list[LearnOutcome] = []
    outer = learn_with(tiny, "B", lambda: inner.extend(learn_concepts(open_home(tiny), ["B"])))
    assert [o.status for o in inner] == ["learned"]
    assert outer.status == "failed"
    assert "another process has published B" in outer.reason
    assert head_of(tiny).version == inner[0].version
    assert statuses(tiny)["B"] is SkuStatus.LEARNED


def test_a_sku_is_retired_after_its_task_and_not_beside_it(knows_a):
    tiny = listed(knows_a("per_concept"), "A", "B")
    said: list[str] = []

    def retire() -> None:
        shutil.rmtree(tiny.catalog_root / "B")
        found = retire_concepts(open_home(tiny), ["B"], lease_wait_seconds=0.0)
        said.extend(outcome.reason for outcome in found)

    assert learn_with(tiny, "B", retire).status == "learned"
    assert re.search("claims/B is held by process", said[0])
    (outcome,) = retire_concepts(open_home(tiny), ["B"])
    assert outcome.version == head_of(tiny).version
    assert head_of(tiny).concept("B") is None


def test_a_clean_up_and_the_doctor_leave_a_task_alone(knows_a):
    tiny = listed(knows_a("per_concept"), "A", "B")
    told: list[str] = []

    def look() -> None:
        removed = collect_garbage(open_home(tiny), grace_hours=0)
        assert not removed.skipped
        assert not [each for each in removed.garbage if each.kind == "checkpoint"]
        told.extend(check.what for check in run_doctor(open_home(tiny)))

    assert learn_with(tiny, "B", look).status == "learned"
    assert any(re.fullmatch("collection default, SKU B: process .* is learning", x) for x in told)


def test_a_shared_slot_is_learned_in_order(knows_a):
    tiny = listed(knows_a("shared"), "A", "B")

    def take() -> None:
        with pytest.raises(LockTimeoutError), store_of(tiny).lease(timeout_seconds=0.0):
            pass

    assert learn_with(tiny, "B", take).status == "learned"
