"""Methods on the collection's one slot: banks, weights and what joint learns from."""

from __future__ import annotations

import pytest
import torch

from catalog_pipeline.learning.methods.ewc import Ewc
from catalog_pipeline.learning.methods.joint import Joint
from catalog_pipeline.learning.methods.l2dm import Distillation, L2dm, Replay
from catalog_pipeline.learning.methods.sequence import TaskSequence
from catalog_pipeline.learning.methods.shared_slot import Finetune
from catalog_pipeline.learning.training_step import TrainingStep
from tests.learning.methods.conftest import new_concept, tensors_of


@pytest.fixture
def seen(monkeypatch):
    """Names of the terms and the concept losses of every step."""
    steps: list[dict[str, float]] = []
    original = TrainingStep.__call__

    def spy(*args):
        loss, terms = original(*args)
        steps.append({name: float(term.detach().mean()) for name, term in terms.items()})
        return loss, terms

    monkeypatch.setattr(TrainingStep, "__call__", spy)
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
def test_each_method_trains_its_own_terms(method, first, second, news, open_context, seen):
    learner = TaskSequence(method(open_context()))
    for new in news[:2]:
        learner.learn(new)
    assert [set(step) - {"concept"} for step in seen] == [first] * 3 + [second] * 3


def test_settings_switch_the_parts_of_l2dm(news, open_context, seen):
    losses = {"prior_weight": 0.0, "replay_weight": 0.0, "distillation_weight": 2.0}
    learner = TaskSequence(L2dm(open_context(losses=losses, replay_selection="random")))
    for new in news[:2]:
        learner.learn(new)
    assert [set(step) - {"concept"} for step in seen] == [set()] * 3 + [{"distillation"}] * 3
    assert Replay(open_context(), prior=True).losses.prior_weight == 1.0


def test_every_ablation_changes_what_l2dm_learns(news, open_context):
    ablations: tuple[dict[str, object], ...] = (
        {},
        {"losses": {"replay_weight": 5.0}},
        {"losses": {"distillation_weight": 50.0}},
        {"losses": {"elasticity": 0.0}},
        {"replay_selection": "random", "replay_exemplars": 2},
    )
    states = []
    for changes in ablations:
        learner = TaskSequence(L2dm(open_context(prior_images=0, **changes)))
        for new in news:
            learner.learn(new)
        states.append(learner.state()["shared"])
    assert all(other != states[0] for other in states[1:])


def test_at_most_replay_concepts_are_recalled_and_they_take_turns(news, open_context):
    learner = TaskSequence(L2dm(open_context(replay_concepts=1, steps=1)))
    recalled = []
    for new in (*news, new_concept("D", "hat", 4)):
        found = learner.method.remembered(new.concept)
        recalled.append([item.concept.sku for item in found])
        learner.learn(new)
    assert recalled == [[], ["A.1"], ["A.1"], ["B"]]


def test_all_methods_see_the_same_first_step_of_a_concept(news, open_context, seen):
    """Equal views, noise and timesteps: the same loss where the weights are still the same."""
    for method in (Finetune, L2dm, Replay, Joint):
        TaskSequence(method(open_context(steps=1))).learn(news[0])
    assert len({step["concept"] for step in seen}) == 1


def test_joint_of_one_concept_is_finetuning_and_of_three_sees_all(news, open_context, seen):
    fine, joint = (TaskSequence(method(open_context())) for method in (Finetune, Joint))
    for sequence in (fine, joint):
        sequence.learn(news[0])
    assert fine.state() == {k: v for k, v in joint.state().items() if not k.startswith("photos/")}
    seen.clear()
    together, one_by_one = TaskSequence(Joint(open_context())), TaskSequence(Joint(open_context()))
    together.learn(*news)
    assert len(seen) == 9
    text = together.method.engine.text
    for new in news:
        start = text.initial_vector(new.concept.class_noun)
        assert not torch.equal(text.table.parameter_of(new.concept.placeholder_tokens[0]), start)
    for new in news:
        one_by_one.learn(new)
    assert together.state() == one_by_one.state()


def test_nothing_is_rendered_for_a_term_that_is_switched_off(news, open_context, monkeypatch):
    off = {"prior_batch_size": 0, "replay_batch_size": 0}
    learner = TaskSequence(L2dm(open_context(**off)))
    monkeypatch.setattr(learner.method.engine, "sample", None)
    for new in news[:2]:
        task = learner.method.task(new)
        assert (task.prior, task.exemplars) == (None, None)
        learner.learn(new)


def test_ewc_and_the_shared_slot_store_the_same_slot_tensors(news, open_context):
    plain, ewc = (TaskSequence(method(open_context())) for method in (Finetune, Ewc))
    for sequence in (plain, ewc):
        sequence.learn(news[0])
    want, got = tensors_of(plain.state()), tensors_of(ewc.state())
    assert {name for name in got if name not in want} == {n for n in got if n[:7] == "fisher/"}
    assert all(torch.equal(want[name], got[name]) for name in want)
