"""Methods that keep a slot for each concept, and what routing makes of them."""

from __future__ import annotations

import pytest
import torch

from catalog_pipeline.learning.baselines.cidm import Cidm
from catalog_pipeline.learning.baselines.ours import Ours


def test_learning_b_leaves_every_picture_of_a_bit_for_bit(news, open_workshop):
    workshop = open_workshop()
    method = Ours(workshop)
    method.learn(news[0])
    asked = [
        method.regional_prompt("a photo of a {concept} in the snow", news[0].concept),
        method.regional_prompt("a photo of a mug", None),
    ]
    assert [item.slots for item in asked] == [("A.1",), (None,)]
    before = [workshop.engine.sample([item], [5], workshop.plan) for item in asked]
    method.learn(news[1])
    after = [workshop.engine.sample([item], [5], workshop.plan) for item in asked]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_cidm_trains_the_very_slots_of_ours(news, open_workshop):
    states = []
    for method in (Ours(open_workshop()), Cidm(open_workshop())):
        for new in news[:2]:
            method.learn(new)
        states.append(method.state())
    ours, cidm = states
    assert set(ours) == set(cidm)
    assert all(torch.equal(ours[key], cidm[key]) for key in ours)


def test_what_a_slot_becomes_does_not_depend_on_the_order_of_tasks(news, open_workshop):
    there, back = Ours(open_workshop()), Ours(open_workshop())
    for new in news[:2]:
        there.learn(new)
    for new in reversed(news[:2]):
        back.learn(new)
    want, got = there.state(), back.state()
    assert all(torch.equal(want[key], got[key]) for key in want)


def test_cidm_merges_all_concepts_by_the_text_and_prefers_the_named_one(news, open_workshop):
    method = Cidm(open_workshop())
    for new in news:
        method.learn(new)
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


def test_cidm_temperature_goes_from_the_mean_to_the_nearest_concept(news, open_workshop):
    workshop = open_workshop()
    flat, sharp = Cidm(workshop, temperature=0.0), Cidm(workshop, temperature=1e4)
    flat.learn(news[0])
    flat.learn(news[1])
    sharp.restore(flat.state(), news[:2])
    prompt = f"a photo of a {news[1].concept.identifier}"
    assert flat.weights(prompt) == pytest.approx({"A.1": 0.5, "B": 0.5})
    assert sharp.weights(prompt)["B"] == pytest.approx(1)


def test_a_cidm_picture_is_that_of_its_merge(news, open_workshop):
    """At a high temperature the merge is the named slot alone: the picture of ours."""
    workshop = open_workshop()
    cidm, ours = Cidm(workshop, temperature=1e5), Ours(workshop)
    for new in news[:2]:
        cidm.learn(new)
    ours.restore(cidm.state(), news[:2])
    pictures = [
        workshop.engine.sample(
            [m.regional_prompt("a {concept}", news[0].concept)], [3], workshop.plan
        )
        for m in (cidm, ours)
    ]
    assert torch.allclose(*pictures, atol=1e-4)
