"""Methods that keep a slot for each concept, and what routing makes of them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load

from catalog_pipeline.diffusion.parts import stored_slot
from catalog_pipeline.learning.methods.cidm import Cidm
from catalog_pipeline.learning.methods.own_slots import OwnSlots
from catalog_pipeline.learning.methods.sequence import TaskSequence


def learned(method, news) -> TaskSequence:
    sequence = TaskSequence(method)
    for new in news:
        sequence.learn(new)
    return sequence


def test_learning_b_leaves_every_picture_of_a_bit_for_bit(news, open_context):
    context = open_context()
    sequence = learned(OwnSlots(context), news[:1])
    asked = [
        sequence.method.regional_prompt("a photo of a {concept} in the snow", news[0].concept),
        sequence.method.regional_prompt("a photo of a mug", None),
    ]
    assert [item.slots for item in asked] == [("A.1",), (None,)]
    before = [context.engine.sample([item], [5], context.plan) for item in asked]
    sequence.learn(news[1])
    after = [context.engine.sample([item], [5], context.plan) for item in asked]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_cidm_trains_the_very_slots_of_ours(news, open_context):
    ours, cidm = (learned(method(open_context()), news[:2]) for method in (OwnSlots, Cidm))
    assert ours.state() == cidm.state()


def test_what_a_slot_becomes_does_not_depend_on_the_order_of_tasks(news, open_context):
    there = learned(OwnSlots(open_context()), news[:2])
    back = learned(OwnSlots(open_context()), news[1::-1])
    assert there.state() == back.state()


def test_what_is_rendered_is_what_is_stored(news, open_context):
    """The slot in the engine after a task is already the cut and rounded one: gates judge it."""
    context = open_context()
    sequence = learned(OwnSlots(context), news[:1])
    stored = stored_slot(sequence.state()["concept/A.1"])
    installed = context.engine.adapter.slot_tensors("A.1")
    assert installed.keys() == stored.keys()
    assert all(torch.equal(installed[name], value) for name, value in stored.items())
    assert any(name.endswith("_codes") for name in load(sequence.state()["concept/A.1"]))


def test_cidm_merges_all_concepts_by_the_text_and_prefers_the_named_one(news, open_context):
    method = learned(Cidm(open_context()), news).method
    skus = [new.concept.sku for new in news]
    for template in ("a photo of a {concept} in the snow", "on grass, two of {concept}"):
        for new in news:
            shares = method.weights(template.format(concept=new.concept.identifier))
            assert list(shares) == skus
            assert sum(shares.values()) == pytest.approx(1)
            assert max(shares, key=shares.__getitem__) == new.concept.sku
    base_only = method.weights("a photo of a mug")
    assert sum(base_only.values()) == pytest.approx(1)
    assert min(base_only.values()) > 0


def test_cidm_temperature_goes_from_the_mean_to_the_nearest_concept(news, open_context):
    context = open_context()
    flat = learned(Cidm(context, temperature=0.0), news[:2])
    sharp = TaskSequence(Cidm(context, temperature=1e4))
    sharp.restore(flat.state(), news[:2])
    prompt = f"a photo of a {news[1].concept.identifier}"
    assert flat.method.weights(prompt) == pytest.approx({"A.1": 0.5, "B": 0.5})
    assert sharp.method.weights(prompt)["B"] == pytest.approx(1)


def test_a_cidm_picture_is_that_of_its_merge(news, open_context):
    """At a high temperature the merge is the named slot alone: the picture of ours."""
    context = open_context()
    cidm = learned(Cidm(context, temperature=1e5), news[:2])
    asked = cidm.method.regional_prompt("a {concept}", news[0].concept)
    merged = context.engine.sample([asked], [3], context.plan)
    ours = TaskSequence(OwnSlots(context))
    ours.restore(cidm.state(), news[:2])
    asked = ours.method.regional_prompt("a {concept}", news[0].concept)
    assert torch.allclose(merged, context.engine.sample([asked], [3], context.plan), atol=1e-4)
