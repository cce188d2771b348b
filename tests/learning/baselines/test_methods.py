"""What every method must do, whatever it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.baselines.registry import METHODS

TEMPLATE = "a photo of a {concept} in the snow"


def render(method, workshop, concept, template=TEMPLATE):
    return workshop.engine.sample([method.regional_prompt(template, concept)], [11], workshop.plan)


@pytest.mark.parametrize("name", METHODS)
def test_a_sequence_of_three_goes_on_in_a_fresh_process_with_the_same_tensors(
    name, news, open_workshop
):
    straight = open_workshop()
    method = METHODS[name](straight)
    assert method.name == name
    bare = render(method, straight, None, "a photo of a mug")
    for new in news[:2]:
        method.learn(new)
    kept = {key: value.clone() for key, value in method.state().items()}
    pictures = [render(method, straight, new.concept) for new in news[:2]]
    base_only = render(method, straight, None, "a photo of a mug")
    assert not torch.equal(pictures[0], pictures[1])
    assert torch.equal(bare, base_only) == (name == "ours")
    method.learn(news[2])

    other = open_workshop()
    restored = METHODS[name](other)
    restored.restore(kept, tuple(replace(new, photos=()) for new in news[:2]))
    for new, picture in zip(news, pictures, strict=False):
        assert torch.equal(render(restored, other, new.concept), picture)
    assert torch.equal(render(restored, other, None, "a photo of a mug"), base_only)
    restored.learn(news[2])
    want, got = method.state(), restored.state()
    assert set(want) == set(got)
    assert all(torch.equal(want[key], got[key]) for key in want)
    assert torch.equal(
        render(method, straight, news[2].concept), render(restored, other, news[2].concept)
    )


@pytest.mark.parametrize("name", ["ours", "finetune", "joint"])
def test_a_known_an_unknown_and_a_photoless_concept_are_refused(name, news, open_workshop):
    method = METHODS[name](open_workshop(steps=1))
    with pytest.raises(LearningError, match=r"'A\.1' was not learned"):
        method.regional_prompt(TEMPLATE, news[0].concept)
    with pytest.raises(LearningError, match="without photos"):
        method.learn(replace(news[0], photos=()))
    method.learn(news[0])
    with pytest.raises(LearningError, match="learned before"):
        method.learn(news[0])
