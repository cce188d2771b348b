"""Methods on the collection's one slot: banks, weights and what joint learns from."""

from __future__ import annotations

import pytest
import torch

from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.baselines.finetune import Finetune
from catalog_pipeline.learning.baselines.joint import Joint
from catalog_pipeline.learning.baselines.l2dm import Distillation, L2dm, Replay
from catalog_pipeline.learning.terms import LossTerms


@pytest.fixture
def seen(monkeypatch):
    """Names of the terms and the concept losses of every step."""
    steps: list[dict[str, float]] = []
    original = LossTerms.of_step

    def spy(*args):
        found = original(*args)
        steps.append({name: float(loss.detach().mean()) for name, loss in found.items()})
        return found

    monkeypatch.setattr(LossTerms, "of_step", spy)
    return steps


@pytest.mark.parametrize(
    ("method", "first", "second"),
    [
        (Finetune, set(), set()),
        (L2dm, {"prior"}, {"prior", "replay", "distillation"}),
        (Replay, set(), {"replay"}),
        (Distillation, set(), {"distillation"}),
    ],
)
def test_each_method_trains_its_own_terms(method, first, second, news, open_workshop, seen):
    learner = method(open_workshop())
    for new in news[:2]:
        learner.learn(new)
    assert [set(step) - {"concept"} for step in seen] == [first] * 3 + [second] * 3


def test_settings_switch_the_parts_of_l2dm(news, open_workshop, seen):
    losses = {"prior_weight": 0.0, "replay_weight": 0.0, "distillation_weight": 2.0}
    learner = L2dm(open_workshop(losses=losses, replay_selection="random"))
    for new in news[:2]:
        learner.learn(new)
    assert [set(step) - {"concept"} for step in seen] == [set()] * 3 + [{"distillation"}] * 3
    assert Replay(open_workshop(), prior=True)._settings.losses.prior_weight == 1.0


def test_every_ablation_changes_what_l2dm_learns(news, open_workshop):
    ablations: tuple[dict[str, object], ...] = (
        {},
        {"losses": {"replay_weight": 5.0}},
        {"losses": {"distillation_weight": 50.0}},
        {"losses": {"elasticity": 0.0}},
        {"replay_selection": "random", "replay_exemplars": 2},
    )
    states = []
    for changes in ablations:
        learner = L2dm(open_workshop(prior_images=0, **changes))
        for new in news:
            learner.learn(new)
        states.append(learner.state())
    for other in states[1:]:
        assert any(not torch.equal(states[0][key], other[key]) for key in other)


def test_at_most_replay_concepts_are_recalled_and_they_take_turns(news, open_workshop):
    learner = L2dm(open_workshop(replay_concepts=1, steps=1))
    recalled = []
    for new in news:
        recalled.append([item.concept.sku for item in learner._remembered()])
        learner.learn(new)
    recalled.append([item.concept.sku for item in learner._remembered()])
    assert recalled == [[], ["A.1"], ["A.1"], ["B"]]


def test_all_methods_see_the_same_first_step_of_a_concept(news, open_workshop, seen):
    """Equal views, noise and timesteps: the same loss where the weights are still the same."""
    for method in (Finetune, L2dm, Replay, Joint):
        method(open_workshop(steps=1)).learn(news[0])
    assert len({step["concept"] for step in seen}) == 1


def test_joint_of_one_concept_is_finetuning_and_of_three_sees_all(news, open_workshop, seen):
    states = []
    for method in (Finetune(open_workshop()), Joint(open_workshop())):
        method.learn(news[0])
        states.append({k: v for k, v in method.state().items() if not k.startswith("photo/")})
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])
    seen.clear()
    together, one_by_one = Joint(open_workshop()), Joint(open_workshop())
    together.learn_all(news)
    assert len(seen) == 9
    table = together._engine.text.table
    for new in news:
        start = together._engine.text.initial_vector(new.concept.class_noun)
        assert not torch.equal(table.parameter_of(new.concept.placeholder_tokens[0]), start)
    for new in news:
        one_by_one.learn(new)
    want, got = together.state(), one_by_one.state()
    assert set(want) == set(got)
    assert all(torch.equal(want[key], got[key]) for key in want)


def test_joint_of_nothing_is_refused(open_workshop):
    with pytest.raises(LearningError, match="got no concept"):
        Joint(open_workshop()).learn_all([])
