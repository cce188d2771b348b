"""What every method must do, whatever it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.methods.collection import HeldCollection
from catalog_pipeline.learning.methods.registry import METHODS, shipped_method
from catalog_pipeline.learning.methods.sequence import TaskSequence

TEMPLATE = "a photo of a {concept} in the snow"


def render(sequence, concept, template=TEMPLATE):
    method = sequence.method
    asked = [method.regional_prompt(template, concept)]
    return method.engine.sample(asked, [11], method.context.plan)


@pytest.mark.parametrize("name", METHODS)
def test_a_sequence_of_three_goes_on_in_a_fresh_process_with_the_same_parts(
    name, news, open_context
):
    straight = TaskSequence(METHODS[name](open_context()))
    assert straight.method.name == name
    bare = render(straight, None, "a photo of a mug")
    for new in news[:2]:
        straight.learn(new)
    kept = straight.state()
    pictures = [render(straight, new.concept) for new in news[:2]]
    base_only = render(straight, None, "a photo of a mug")
    assert not torch.equal(pictures[0], pictures[1])
    assert torch.equal(bare, base_only) == (name in ("ours", "consolidated"))
    assert straight.method.exact == (name == "ours")
    straight.learn(news[2])

    restored = TaskSequence(METHODS[name](open_context()))
    restored.restore(kept, tuple(replace(new, photos=()) for new in news[:2]))
    for new, picture in zip(news, pictures, strict=False):
        assert torch.equal(render(restored, new.concept), picture)
    assert torch.equal(render(restored, None, "a photo of a mug"), base_only)
    restored.learn(news[2])
    assert straight.state() == restored.state()
    assert torch.equal(render(straight, news[2].concept), render(restored, news[2].concept))


@pytest.mark.parametrize("name", ["ours", "finetune", "joint"])
def test_a_known_an_unknown_and_a_photoless_concept_are_refused(name, news, open_context):
    sequence = TaskSequence(METHODS[name](open_context(steps=1)))
    with pytest.raises(LearningError, match=r"'A\.1' was not learned"):
        sequence.method.regional_prompt(TEMPLATE, news[0].concept)
    with pytest.raises(LearningError, match="no photos"):
        sequence.learn(replace(news[0], photos=()))
    with pytest.raises(LearningError, match="got no concept"):
        sequence.learn()
    sequence.learn(news[0])
    with pytest.raises(LearningError, match="learned before"):
        sequence.learn(news[0])


def test_a_collection_of_the_other_kind_is_not_gone_on_with_blindly(news, open_context):
    own, shared = (
        shipped_method(open_context(steps=1, adapter={"slots": slots, "rank": 2}))
        for slots in ("per_concept", "shared")
    )
    assert (own.name, shared.name) == ("ours", "l2dm")
    first = TaskSequence(own)
    first.learn(news[0])
    with pytest.raises(LearningError, match="slots of their own"):
        shared.open(first.collection)
    second = TaskSequence(shared)
    second.learn(news[1])
    own.open(second.collection)
    assert not own.install(news[1].concept)
    with pytest.raises(LearningError, match="not with this adapter"):
        own.regional_prompt(TEMPLATE, news[1].concept)


def test_opening_a_collection_leaves_no_slot_of_another(news, open_context):
    sequence = TaskSequence(METHODS["ours"](open_context(steps=1)))
    sequence.learn(news[0])
    adapter = sequence.method.engine.adapter
    assert adapter.slots == {"A.1"}
    sequence.restore(sequence.state(), news[:1])
    assert adapter.slots == set()
    sequence.method.regional_prompt(TEMPLATE, news[0].concept)
    assert adapter.slots == {"A.1"}


def test_a_task_is_known_by_its_inputs_and_by_what_it_starts_from(news, open_context):
    def fingerprint(name, *earlier, new=news[2], **changes):
        sequence = TaskSequence(METHODS[name](open_context(steps=1, prior_images=0, **changes)))
        for one in earlier:
            sequence.learn(one)
        return sequence.method.task(new).fingerprint

    first = fingerprint("l2dm", news[0])
    assert first == fingerprint("l2dm", news[0])
    other = replace(news[2], concept=replace(news[2].concept, config_hash="other"))
    different = (
        fingerprint("l2dm", news[1]),
        fingerprint("finetune", news[0]),
        fingerprint("l2dm", news[0], new=other),
        fingerprint("l2dm", news[0], seed=8),
    )
    assert len({first, *different}) == 5
    assert fingerprint("ours") == fingerprint("ours", news[0]), "no task reads an earlier slot"


def test_a_task_after_a_retirement_does_not_go_on_from_the_checkpoint_before_it(news, open_context):
    sequence = TaskSequence(METHODS["l2dm"](open_context(steps=1, prior_images=0)))
    for new in news[:2]:
        sequence.learn(new)
    before = sequence.method.task(news[2])
    left = HeldCollection()
    left.add(news[:1], sequence.state())
    sequence.method.open(left)
    after = sequence.method.task(news[2])
    assert before.exemplars.concepts != after.exemplars.concepts
    assert before.fingerprint != after.fingerprint
