from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.learning.memory import LatentBank, render_prior
from catalog_pipeline.learning.pool import TrainingPool, training_pool
from catalog_pipeline.learning.schedule import PlateauSchedule
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.records import Concept
from catalog_pipeline.settings import (
    EarlyStopSettings,
    LearningSettings,
)
from tests.builders import make_concept, make_photos
from tests.learning.checkpoints import Killed, MemoryCheckpoint
from tests.tiny_model import open_tiny_engine, write_tiny_model

SETTINGS = LearningSettings(steps=12, checkpoint_every=5, latent_views=5, batch_size=2)


def named(noun: str, *tokens: str) -> Concept:
    return make_concept(noun, 1, class_noun=noun, placeholder_tokens=tokens)


def make_task(
    slot: str = "A",
    tokens: tuple[str, ...] = ("<A:0>", "<A:1>"),
    fresh_slot: bool = True,
    **changes,
) -> LearningTask:
    photos = make_photos(3, 24, masked=True)
    task = {
        "subjects": (Subject(named("mug", *tokens), photos, slot, fresh_slot),),
        "backdrops": (Backdrop(np.zeros((16, 16, 3), np.uint8), "in the snow"),),
        "fingerprint": "f",
        "seed": 3,
    }
    return LearningTask(**{**task, **changes})


def learned_bytes(engine: DiffusionEngine, task: LearningTask) -> bytes:
    (subject,) = task.subjects
    tokens = token_part(engine, subject.concept.placeholder_tokens)
    return encode_part(slot_part(engine, subject.slot) | tokens)


def run(engine, task=None, checkpoint=None, settings=SETTINGS, stop_at: int | None = None):
    def on_step(step: int, loss: float) -> None:
        assert np.isfinite(loss)
        if step == stop_at:
            raise Killed

    trainer, task = ConceptTrainer(engine, settings), task or make_task()
    try:
        return trainer.train(task, checkpoint or MemoryCheckpoint(), on_step)
    except Killed:
        return None


def test_same_seed_same_bytes_and_kill_resume_gives_them_too(tiny_model_folder):
    whole = open_tiny_engine(tiny_model_folder)
    curve = run(whole)
    want = learned_bytes(whole, make_task())
    checkpoint = MemoryCheckpoint()
    assert run(open_tiny_engine(tiny_model_folder), checkpoint=checkpoint, stop_at=8) is None
    assert checkpoint.data is not None
    resumed = open_tiny_engine(tiny_model_folder)
    steps = []
    trainer = ConceptTrainer(resumed, SETTINGS)
    again = trainer.train(make_task(), checkpoint, lambda step, _: steps.append(step))
    assert steps == list(range(6, 13))
    assert learned_bytes(resumed, make_task()) == want
    assert again[-1] == curve[-1]


def test_a_checkpoint_of_another_task_or_broken_bytes_start_afresh(tiny_model_folder):
    checkpoint = MemoryCheckpoint()
    run(open_tiny_engine(tiny_model_folder), checkpoint=checkpoint, stop_at=8)
    other, plain = open_tiny_engine(tiny_model_folder), open_tiny_engine(tiny_model_folder)
    run(other, make_task(fingerprint="g"), checkpoint)
    run(plain, make_task(fingerprint="g"))
    assert learned_bytes(other, make_task()) == learned_bytes(plain, make_task())
    checkpoint.data = b"not a state"
    run(open_tiny_engine(tiny_model_folder), checkpoint=checkpoint, stop_at=2)


def test_training_lowers_the_loss_and_leaves_base_and_neighbours_alone(engine):
    run(engine, make_task("B", tokens=("<B:0>",)))
    neighbour = learned_bytes(engine, make_task("B", tokens=("<B:0>",)))
    base = [p.clone() for p in engine.base.text_encoder.parameters() if p.shape[0] > 100]
    curve = run(engine, settings=LearningSettings(steps=120, latent_views=5, adapter_lr=1e-2))
    assert np.mean([loss for _, loss in curve[-3:]]) < np.mean([loss for _, loss in curve[:3]])
    assert learned_bytes(engine, make_task("B", tokens=("<B:0>",))) == neighbour
    after = [p for p in engine.base.text_encoder.parameters() if p.shape[0] > 100]
    assert all(torch.equal(a, b) for a, b in zip(base, after, strict=True))
    assert not any(p.requires_grad for p in engine.adapter.parameters_of("A"))


def test_a_shared_slot_goes_on_from_the_last_task_and_replays(engine, monkeypatch):
    run(engine, make_task("shared"))
    before = slot_part(engine, "shared")
    plan = SamplingPlan(2, 2.0, 16, 16)
    prior = render_prior(engine, ["a mug", "a hat"], plan, 0)
    exemplars = LatentBank(prior.latents, ("a <A:0> mug",) * 2, ("A",) * 2)
    task = make_task(
        "shared", tokens=("<C:0>",), fresh_slot=False, prior=prior, exemplars=exemplars
    )
    names: set[str] = set()
    original = TrainingStep.__call__

    def spy(*args):
        loss, terms = original(*args)
        names.update(terms)
        return loss, terms

    monkeypatch.setattr(TrainingStep, "__call__", spy)
    ConceptTrainer(engine, SETTINGS).train(task)
    assert names == {"concept", "prior", "replay", "distillation"}
    after = slot_part(engine, "shared")
    assert any(not torch.equal(before[k], after[k]) for k in before)
    moved = max(float((before[k] - after[k]).abs().max()) for k in before)
    assert moved < 0.1


def test_memory_terms_have_no_gradient_on_a_concepts_own_slot(engine):
    """Why tasks with slots per concept carry no banks."""
    run(engine, make_task("A"))
    for parameter in engine.adapter.parameters_of("A"):
        parameter.requires_grad_(True)
    bank = render_prior(engine, ["a mug", "a hat"], SamplingPlan(2, 2.0, 16, 16), 0)
    from catalog_pipeline.diffusion.adapter import whole_image

    hidden = engine.text.encode(list(bank.prompts))[:, None]
    times = torch.tensor([5, 9])
    out = engine.predict(bank.latents, times, hidden, None, whole_image([None] * len(bank)))
    assert not out.requires_grad or torch.autograd.grad(
        out.sum(), engine.adapter.parameters_of("A"), allow_unused=True
    ) == (None,) * len(engine.adapter.parameters_of("A"))


def test_epsilon_models_learn_too(tmp_path):
    folder = write_tiny_model(tmp_path / "model", "epsilon")
    assert run(open_tiny_engine(folder)) is not None


def test_a_loss_that_is_no_number_stops_the_task(engine):
    huge = SETTINGS.model_copy(update={"adapter_lr": 1e30})
    with pytest.raises(LearningError, match="adapter_lr"):
        ConceptTrainer(engine, huge).train(make_task())


def test_learning_rate_warms_up_stays_and_falls():
    schedule = PlateauSchedule(100, EarlyStopSettings())
    factors = [schedule.factor(step) for step in range(100)]
    assert schedule.last_step == 100
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:60] == [1.0] * 50
    assert all(a >= b for a, b in itertools.pairwise(factors[60:]))
    assert factors[-1] < 0.06


# --- tasks of several concepts -----------------------------------------------


SHORT = LearningSettings(steps=7, checkpoint_every=5, latent_views=2, batch_size=1)


def two_subjects(slots: tuple[str, str] = ("A", "B"), **changes) -> LearningTask:
    """A mug and a hat; the second goes on with the first's slot where they share it."""
    first = make_task(slots[0], tokens=("<A:0>",)).subjects[0]
    photos = make_photos(3, 24, seed=9, sku="hat-")
    second = Subject(named("hat", "<B:0>"), photos, slots[1], fresh_slot=slots[0] != slots[1])
    return replace(make_task(), subjects=(first, second), **changes)


def all_bytes(engine: DiffusionEngine, task: LearningTask) -> bytes:
    tensors = token_part(engine, [t for s in task.subjects for t in s.concept.placeholder_tokens])
    for slot in task.slots:
        tensors |= {f"{slot}/{name}": value for name, value in slot_part(engine, slot).items()}
    return encode_part(tensors)


def test_subjects_take_turns_step_by_step(engine, monkeypatch):
    turns = []
    original, group = TrainingStep.instance_prompts, TrainingPool.group

    def spy(self, subject, pool, views):
        turns[-1] = (subject.slot, turns[-1])
        return original(self, subject, pool, views)

    monkeypatch.setattr(
        TrainingPool, "group", lambda p, turn, g: turns.append(turn) or group(p, turn, g)
    )
    monkeypatch.setattr(TrainingStep, "instance_prompts", spy)
    curve = run(engine, two_subjects(), settings=SHORT)
    assert turns == [(slot, turn) for turn in range(7) for slot in "AB"]
    assert curve[-1][0] == 14


def heldout_losses(engine: DiffusionEngine, task: LearningTask) -> list[float]:
    """The loss of each subject on views that are not trained on, noise and timesteps fixed."""
    pools = tuple(training_pool(engine, s.photos, (), 1, 3) for s in task.subjects)
    step = TrainingStep(engine, SHORT, task, pools)
    pairs = zip(task.subjects, pools, strict=True)
    return [step.heldout_loss(subject, pool) for subject, pool in pairs]


def test_two_subjects_are_both_learned_in_slots_of_their_own(engine):
    task = two_subjects()
    settings = LearningSettings(steps=1, latent_views=3, batch_size=2, adapter_lr=1e-3)
    run(engine, task, settings=settings)
    before = heldout_losses(engine, task)
    run(engine, task, settings=settings.model_copy(update={"steps": 40}))
    assert all(b < a for a, b in zip(before, heldout_losses(engine, task), strict=True))
    for subject in task.subjects:
        start = engine.text.initial_vector(subject.concept.class_noun)
        assert not torch.equal(
            engine.text.table.parameter_of(subject.concept.placeholder_tokens[0]), start
        )
    first, second = (slot_part(engine, slot) for slot in task.slots)
    assert not any(torch.equal(first[name], second[name]) for name in first)


def test_a_subjects_step_leaves_the_others_slot_alone(engine):
    states = {"A": [], "B": []}

    def on_step(step: int, loss: float) -> None:
        for slot, found in states.items():
            found.append(encode_part(slot_part(engine, slot)))

    ConceptTrainer(engine, SHORT).train(two_subjects(), MemoryCheckpoint(), on_step)
    for slot, own in (("A", 0), ("B", 1)):
        moved = [b != a for a, b in itertools.pairwise(states[slot])]
        assert moved == [step % 2 == own for step in range(1, 14)]


def test_a_task_of_two_subjects_is_deterministic_and_resumes_to_the_same_bytes(tiny_model_folder):
    task = two_subjects()
    whole = open_tiny_engine(tiny_model_folder)
    run(whole, task, settings=SHORT)
    checkpoint = MemoryCheckpoint()
    assert run(open_tiny_engine(tiny_model_folder), task, checkpoint, SHORT, stop_at=8) is None
    resumed, steps = open_tiny_engine(tiny_model_folder), []
    ConceptTrainer(resumed, SHORT).train(task, checkpoint, lambda step, _: steps.append(step))
    assert steps == list(range(6, 15))
    assert all_bytes(resumed, task) == all_bytes(whole, task)


def test_a_first_step_is_that_of_the_subject_alone(tiny_model_folder):
    """Each step has a seed of its own, although a second subject draws initial values too."""
    alone, both = open_tiny_engine(tiny_model_folder), open_tiny_engine(tiny_model_folder)
    task = two_subjects()
    first = replace(task, subjects=task.subjects[:1])
    once = SHORT.model_copy(update={"steps": 1})
    run(alone, first, settings=once)
    run(both, task, settings=once)
    assert encode_part(slot_part(alone, "A")) == encode_part(slot_part(both, "A"))


def test_two_subjects_share_a_slot_that_is_trained_once_a_step(engine):
    task = two_subjects(("shared", "shared"))
    assert task.slots == ("shared",)
    assert task.bank_slot == "shared"
    run(engine, task, settings=SHORT)
    assert engine.adapter.slots == {"shared"}
    ups = [v for n, v in slot_part(engine, "shared").items() if n.endswith(".up")]
    assert all(bool(up.any()) for up in ups)
    for subject in task.subjects:
        start = engine.text.initial_vector(subject.concept.class_noun)
        row = engine.text.table.parameter_of(subject.concept.placeholder_tokens[0])
        assert not torch.equal(row, start)
    before = slot_part(engine, "shared")
    again = replace(task, subjects=tuple(replace(s, fresh_slot=False) for s in task.subjects))
    run(engine, again, settings=SHORT)
    after = slot_part(engine, "shared")
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_two_subjects_replay_what_was_learned_before_them(engine):
    run(engine, two_subjects(("shared", "shared")), settings=SHORT)
    bank = render_prior(engine, ["a <A:0> mug", "a <B:0> hat"], SamplingPlan(2, 2.0, 16, 16), 0)
    remembered = LatentBank(bank.latents, bank.prompts, ("A", "B"))
    task = two_subjects(("shared", "shared"), exemplars=remembered)
    renamed = tuple(
        replace(s, fresh_slot=False, concept=named(s.concept.class_noun, f"<{s.slot}-{i}:0>"))
        for i, s in enumerate(task.subjects)
    )
    old = token_part(engine, ("<A:0>", "<B:0>"))
    assert run(engine, replace(task, subjects=renamed), settings=SHORT) is not None
    for name, row in token_part(engine, ("<A:0>", "<B:0>")).items():
        assert torch.equal(row, old[name]), "the tokens of earlier concepts are frozen"
