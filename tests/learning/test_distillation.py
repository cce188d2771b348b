"""Elastic weights of Eq. (6), arXiv:2309.04430, against slow loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from catalog_pipeline.learning.checkpoint import encode_state, restore_state
from catalog_pipeline.learning.distillation import ElasticWeights

MEMORY = 0.9

Batch = tuple[list[str], list[float]]
STREAM: list[Batch] = [
    (["A", "B"], [1.0, 2.0]),
    (["A", "A"], [3.0, 1.0]),
    (["C", "B"], [40.0, 0.001]),
    (["A", "C"], [0.5, 60.0]),
]


def fed(elasticity: float, stream: list[Batch] = STREAM) -> ElasticWeights:
    elastic = ElasticWeights(["A", "B", "C"], elasticity)
    for concepts, losses in stream:
        elastic.weigh(concepts, torch.tensor(losses))
    return elastic


def slow_weights(elasticity: float, stream: list[Batch] = STREAM) -> dict[str, float]:
    """The formula of the module's docstring, one concept after the other."""
    means: dict[str, float] = {}
    for concepts, losses in stream:
        for name, loss in zip(concepts, losses, strict=True):
            means[name] = MEMORY * means[name] + (1 - MEMORY) * loss if name in means else loss
    overall = sum(means.values()) / len(means)
    weights = {}
    for name in "ABC":
        share = (means[name] / overall) ** elasticity if name in means else 1.0
        weights[name] = min(4.0, max(0.25, share))
    return weights


@pytest.mark.parametrize("elasticity", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("batches", [1, 2, 4])
def test_weights_equal_a_slow_loop(elasticity: float, batches: int) -> None:
    got = fed(elasticity, STREAM[:batches]).weights()
    want = slow_weights(elasticity, STREAM[:batches])
    torch.testing.assert_close(got, torch.tensor([want[name] for name in "ABC"]))


def test_an_elasticity_of_zero_is_the_plain_sum() -> None:
    elastic = ElasticWeights(["A", "B"], 0.0)
    for concepts, losses in STREAM[:2]:
        values = torch.tensor(losses)
        assert torch.equal(elastic.weigh(concepts, values), values)


def test_what_has_not_been_seen_counts_one() -> None:
    elastic = ElasticWeights(["A", "B"], 1.0)
    losses = torch.tensor([5.0, 0.1])
    assert torch.equal(elastic.weigh(["A", "A"], losses), losses), "weighed before it is learned"
    assert torch.equal(elastic.weights(), torch.ones(2)), "one concept is its own mean"
    assert torch.equal(ElasticWeights([], 1.0).weights(), torch.ones(1))


def test_the_concept_that_drifts_most_is_held_hardest() -> None:
    weights = fed(1.0).weights()
    assert float(weights[2]) > 1 > float(weights[1])
    assert fed(2.0).weights()[2] > weights[2], "more elasticity, more contrast"


@settings(max_examples=50)
@given(
    losses=st.lists(st.floats(0, 1e6), min_size=3, max_size=30),
    elasticity=st.floats(0, 20),
)
def test_weights_stay_between_a_quarter_and_four(losses: list[float], elasticity: float) -> None:
    elastic = ElasticWeights(["A", "B", "C"], elasticity)
    for number, loss in enumerate(losses):
        elastic.weigh(["ABC"[number % 3]], torch.tensor([loss]))
    weights = elastic.weights()
    assert bool(((weights >= 0.25) & (weights <= 4)).all())


def test_weights_are_constants_of_the_gradient() -> None:
    elastic = fed(1.0)
    before = elastic.weights()
    losses = torch.tensor([2.0, 3.0, 4.0], requires_grad=True)
    elastic.weigh(["C", "A", "C"], losses).sum().backward()
    assert losses.grad is not None
    torch.testing.assert_close(losses.grad, before[torch.tensor([2, 0, 2])])


def test_the_state_goes_through_a_checkpoint_unseen_concepts_included() -> None:
    elastic, fresh = fed(1.0, STREAM[:2]), ElasticWeights(["A", "B", "C"], 1.0)
    assert math.isnan(float(elastic.state[2]))
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter])

    def restored(into: Tensor) -> object:
        data = encode_state("f", 3, [parameter], optimizer, [], {"elastic": elastic.state})
        return restore_state(data, "f", [parameter], optimizer, {"elastic": into})

    assert restored(fresh.state) == (3, [])
    for concepts, losses in STREAM[2:]:
        values = torch.tensor(losses)
        assert torch.equal(elastic.weigh(concepts, values), fresh.weigh(concepts, values))
    assert torch.equal(elastic.weights(), fresh.weights())


def test_the_same_concept_twice_in_the_list_is_one() -> None:
    elastic = ElasticWeights(["A", "A", None, "B"], 1.0)
    assert elastic.state.shape == (3,)
    assert elastic.weigh([None], torch.tensor([1.0])).shape == (1,)
