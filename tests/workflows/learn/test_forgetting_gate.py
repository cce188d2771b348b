"""Before and after a task: reports, and the gate of both kinds of slots on a tiny real model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
from catalog_pipeline.diffusion.sampling import RegionalPrompt, SamplingPlan
from catalog_pipeline.errors import QualityGateError
from catalog_pipeline.evaluation.contact_sheet import decode_png
from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.learning.memory import refreshed
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.learning.methods.registry import shipped_method
from catalog_pipeline.records import Concept
from catalog_pipeline.settings import AdapterSettings, LearningSettings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.memory import MemoryEntry, encode_memory
from catalog_pipeline.workflows.learn.forgetting_gate import open_gate, require_untouched_parts
from catalog_pipeline.workflows.learn.forgetting_report import (
    BASE_ONLY,
    Comparison,
    ForgettingReport,
)
from catalog_pipeline.workflows.learn.learning_inputs import LearningTools, StoredCollection
from catalog_pipeline.workflows.learn.refused_candidates import before_after_sheet
from tests.builders import make_adapter_version, make_concept

OWN = LearningSettings(gate_images=2, gate_prior_images=2)
SHARED = OWN.model_copy(update={"adapter": AdapterSettings(slots="shared")})


def named(sku: str, task: int = 1) -> Concept:
    return make_concept(sku, task, placeholder_tokens=(f"<{sku}:0>",))


NEW = named("NEW", 3)


def painted(value: int) -> np.ndarray:
    return np.full((16, 16, 3), value, np.uint8)


def compared(subject: str, before: float, after: float, *, same: bool = False) -> Comparison:
    pictures = (painted(0),)
    return Comparison(subject, before, after, pictures, pictures if same else (painted(9),))


@pytest.fixture
def tools(engine) -> LearningTools:
    return LearningTools(engine, open_encoder(), ProductMasker(), SamplingPlan(2, 2.0, 16, 16))


def method_on(tools: LearningTools, settings: LearningSettings, collection):
    context = LearningContext(tools.engine, settings, tools.encoder.encode, (), tools.plan)
    method = shipped_method(context)
    method.open(collection)
    return method


class Collection:
    """Two learned concepts in a scratch store, and the engine that holds their weights."""

    def __init__(self, tools: LearningTools, objects: LocalObjectStore, shared: bool) -> None:
        self.objects, self.store = objects, AdapterStore(objects, "default")
        engine, generator = tools.engine, torch.Generator().manual_seed(0)
        parts = {}
        for number, sku in enumerate("AB"):
            slot = "shared" if shared else sku
            engine.adapter.add_slot(slot, generator)
            for parameter in engine.adapter.parameters_of(slot):
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
            engine.adapter.parameters_changed()
            engine.text.table.add(f"<{sku}:0>", torch.full((16,), float(number)))
            tensors = {} if shared else slot_part(engine, slot)
            data = encode_part(tensors | token_part(engine, (f"<{sku}:0>",)))
            parts[f"concept/{sku}"] = self.store.write_part(data)
        if shared:
            parts["shared"] = self.store.write_part(encode_part(slot_part(engine, "shared")))
        for sku in "AB":
            slot = "shared" if shared else sku
            prompts = [RegionalPrompt((f"a photo of a <{sku}:0> mug",), (slot,))] * 2
            pictures = engine.decode(engine.sample(prompts, (0, 1), tools.plan))
            entry = MemoryEntry(sku, ("a {concept}",), tools.encoder.encode(pictures))
            parts[f"memory/{sku}"] = self.store.write_part(encode_memory(entry))
        version = make_adapter_version(named("A", 1), named("B", 2), parts=parts)
        self.version = replace(version, version="v")

    def gate(self, tools: LearningTools, settings: LearningSettings):
        method = method_on(tools, settings, StoredCollection(self.store, self.version, "NEW"))
        return open_gate(tools, method, NEW, settings, self.objects)


@pytest.fixture
def shared(tools, tmp_path) -> Collection:
    return Collection(tools, LocalObjectStore(tmp_path), shared=True)


@pytest.fixture
def own(tools, tmp_path) -> Collection:
    return Collection(tools, LocalObjectStore(tmp_path), shared=False)


def change(tools: LearningTools, slot: str) -> None:
    with torch.no_grad():
        for parameter in tools.engine.adapter.parameters_of(slot):
            parameter.mul_(-2)
    tools.engine.adapter.parameters_changed()


def test_a_report_names_what_fell_the_worst_first():
    falls = (compared("A", 0.5, 0.4), compared("B", 0.5, 0.47), compared("C", 0.5, 0.2))
    report = ForgettingReport(falls, compared(BASE_ONLY, 1, 0.93), 0.05, 0.05)
    assert [c.subject for c in report.fallen] == ["C", "A"]
    assert report.metrics == pytest.approx({"forgetting": 0.3, "prior_drift": 0.07})
    text = report.complaint()
    assert "forgets C (-0.300, 0.500 to 0.200), A (-0.100, 0.500 to 0.400)" in text
    assert "expected a fall of at most 0.05 and base-only pictures drift by 0.070" in text
    assert report.figures()["fallen"] == ["C", "A"]


def test_within_the_tolerance_all_is_well():
    report = ForgettingReport((compared("A", 0.5, 0.46),), compared(BASE_ONLY, 1, 0.96), 0.05, 0.05)
    assert report.passed
    assert report.complaint() == ""
    nothing = ForgettingReport((), None, 0.05, 0.05)
    assert nothing.passed
    assert nothing.metrics == {"forgetting": 0.0}


def test_an_exact_report_forgives_no_bit_and_a_tolerant_one_refuses_a_tolerance_below_zero():
    better = (compared("A", 0.5, 0.6),)
    assert not ForgettingReport(better, None, 9.0, 9.0, exact=True).passed
    same = (compared("A", 0.5, 0.5, same=True),)
    assert ForgettingReport(same, None, 0.0, 0.0, exact=True).passed
    assert not ForgettingReport(same, None, -1.0, 0.0).passed


def test_the_sheet_shows_two_rows_for_each_thing_that_fell():
    falls = tuple(compared(sku, 0.5, 0.1) for sku in "ABCDEF")
    prior = compared(BASE_ONLY, 1, 0.5)
    only_skus = decode_png(before_after_sheet(ForgettingReport(falls[:1], None, 0.05, 0.05)))
    both = decode_png(before_after_sheet(ForgettingReport(falls[:1], prior, 0.05, 0.05)))
    many = decode_png(before_after_sheet(ForgettingReport(falls, prior, 0.05, 0.05)))
    pitch = 96 + 18 + 2
    heights = [sheet.shape[0] for sheet in (only_skus, both, many)]
    assert heights == [2 * pitch - 2, 4 * pitch - 2, 10 * pitch - 2]


def test_a_shared_slot_that_did_not_change_has_lost_nothing(tools, shared):
    report = shared.gate(tools, SHARED).judge()
    assert [c.subject for c in report.skus] == ["A", "B"]
    assert all(c.identical and c.fall == 0.0 for c in report.skus)
    # The base-only pictures go through the slot, which was random from the start.
    assert report.metrics["prior_drift"] > 0.0


def test_a_shared_slot_that_changed_is_measured_against_how_it_was(tools, shared):
    gate = shared.gate(tools, SHARED)
    change(tools, "shared")
    report = gate.judge()
    assert not any(c.identical for c in report.skus)
    assert all(c.fall == c.before - c.after for c in report.skus)
    assert report.metrics["forgetting"] == max(c.fall for c in report.skus) != 0.0
    assert report.passed == (report.metrics["forgetting"] <= 0.05 and not report.prior_fell)


def test_without_earlier_concepts_only_the_prior_is_compared(tools, shared):
    method = method_on(tools, SHARED, StoredCollection(shared.store, None, "NEW"))
    gate = open_gate(tools, method, NEW, SHARED, shared.objects)
    tools.engine.adapter.add_slot("shared", torch.Generator().manual_seed(0))
    report = gate.judge()
    assert report.skus == ()
    assert report.prior is not None
    none = SHARED.model_copy(update={"gate_prior_images": 0, "gate_retention_concepts": 0})
    nothing = shared.gate(tools, none).judge()
    assert (nothing.skus, nothing.prior) == ((), None)


def test_own_slots_are_the_same_bit_by_bit(tools, own):
    gate = own.gate(tools, OWN)
    tools.engine.adapter.add_slot("NEW", torch.Generator().manual_seed(7))
    change(tools, "NEW")
    report = gate.judge()
    (probe,) = report.skus
    assert report.passed
    assert report.exact
    assert report.metrics == {"forgetting": 0.0, "prior_drift": 0.0}
    # One picture an earlier concept, whatever the settings say of tolerances, and no other slot
    # than its own; the next task starts without it.
    assert len(probe.pictures_after) == 1
    assert tools.engine.adapter.slots == {"NEW", probe.subject}
    gate.method.open(gate.method.collection)
    assert tools.engine.adapter.slots == set()


def test_an_own_slot_that_somebody_touched_is_found(tools, own):
    gate = own.gate(tools, OWN)
    for slot in tools.engine.adapter.slots:
        change(tools, slot)
    report = gate.judge()
    assert not report.passed
    assert "expected a fall of none" in report.complaint()
    assert not report.prior_fell


def test_a_base_that_somebody_touched_is_found(tools, own):
    gate = own.gate(tools, OWN)
    with torch.no_grad():
        tools.engine.base.unet.conv_in.bias += 0.1
    report = gate.judge()
    assert report.prior_fell
    assert BASE_ONLY in report.complaint()


def test_a_concept_of_another_adapter_cannot_be_probed_and_is_left_out(tools, own):
    other = encode_part({"slot/x.down": torch.zeros(1), "token/0": torch.zeros(16)})
    digest = own.store.write_part(other)
    own.version = replace(own.version, parts={**own.version.parts, "concept/A": digest})
    only_a = tuple(c for c in own.version.concepts if c.sku == "A")
    own.version = replace(own.version, concepts=only_a)
    assert own.gate(tools, OWN).judge().skus == ()


def test_parts_of_others_must_keep_their_hashes(own):
    parent, parts = own.version, dict(own.version.parts)
    require_untouched_parts(None, parts, "NEW")
    require_untouched_parts(parent, parts | {"concept/NEW": "x", "shared": "y"}, "NEW")
    require_untouched_parts(parent, parts | {"concept/A": "x", "memory/A": "y"}, "A")
    with pytest.raises(QualityGateError, match=r"NEW: .* parts concept/A of version v"):
        require_untouched_parts(parent, parts | {"concept/A": "x"}, "NEW")
    del parts["memory/B"]
    with pytest.raises(QualityGateError, match="memory/B"):
        require_untouched_parts(parent, parts, "NEW")


@pytest.mark.parametrize("count", [1, 4, 16])
def test_every_concept_has_its_turn_as_the_catalog_grows(count):
    learned: list[Concept] = []
    turns: Counter[str] = Counter()
    for task in range(200):
        turns.update(c.sku for c in refreshed(learned, count, task))
        learned.append(named(f"s{task}", task + 1))
    # The queue moves on by `count` a task: the k-th concept, k-th in line, waits k / count tasks.
    settled = [f"s{task}" for task in range(int(197 / (1 + 1 / count)))]
    assert len(settled) > 90
    assert [sku for sku in settled if not turns[sku]] == []
    assert refreshed([], count, 0) == []


def test_learning_a_concept_anew_moves_the_turn_on():
    learned = [named(sku) for sku in "ABCDEF"]
    turns = [tuple(c.sku for c in refreshed(learned, 2, task)) for task in range(6, 9)]
    assert len({sku for turn in turns for sku in turn}) == 6
