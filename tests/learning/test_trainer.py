from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.learning.memory import LatentBank, render_prior
from catalog_pipeline.learning.schedule import PlateauSchedule
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.terms import LossTerms
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.records import Photo
from catalog_pipeline.settings import (
    AdapterSettings,
    BaseModelSettings,
    EarlyStopSettings,
    LearningSettings,
)
from tests.tiny_model import write_tiny_model

SETTINGS = LearningSettings(steps=12, checkpoint_every=5, latent_views=5, batch_size=2)


class MemoryCheckpoint:
    def __init__(self) -> None:
        self.data: bytes | None = None

    def read(self) -> bytes | None:
        return self.data

    def write(self, data: bytes) -> None:
        self.data = data


def make_task(slot: str = "A", **changes) -> LearningTask:
    rng = np.random.default_rng(0)
    mask = np.zeros((24, 24), np.uint8)
    mask[6:18, 6:18] = 255
    photos = tuple(
        Photo(f"{i}.jpg", str(i), rng.integers(0, 255, (24, 24, 3), dtype=np.uint8), mask)
        for i in range(3)
    )
    subject = {
        "class_noun": "mug",
        "photos": photos,
        "slot": slot,
        "placeholder_tokens": ("<A:0>", "<A:1>"),
        "fresh_slot": True,
    }
    subject |= {name: changes.pop(name) for name in list(changes) if name in subject}
    task = {
        "subjects": (Subject(**subject),),
        "backdrops": (Backdrop(np.zeros((16, 16, 3), np.uint8), "in the snow"),),
        "fingerprint": "f",
        "seed": 3,
    }
    return LearningTask(**{**task, **changes})


def learned_bytes(engine: DiffusionEngine, task: LearningTask) -> bytes:
    (subject,) = task.subjects
    tokens = token_part(engine, subject.placeholder_tokens)
    return encode_part(slot_part(engine, subject.slot) | tokens)


def run(engine, task=None, checkpoint=None, settings=SETTINGS, stop_at: int | None = None):
    class Killed(BaseException):
        pass

    def on_step(step: int, loss: float) -> None:
        assert np.isfinite(loss)
        if step == stop_at:
            raise Killed

    trainer, task = ConceptTrainer(engine, settings), task or make_task()
    try:
        return trainer.train(task, checkpoint or MemoryCheckpoint(), on_step)
    except Killed:
        return None


def fresh(folder) -> DiffusionEngine:
    base = load_base_model(BaseModelSettings(base_model=str(folder), dtype="float32"))
    return DiffusionEngine(base, AdapterSettings(rank=2))


def test_same_seed_same_bytes_and_kill_resume_gives_them_too(tiny_model_folder):
    whole = fresh(tiny_model_folder)
    curve = run(whole)
    want = learned_bytes(whole, make_task())
    checkpoint = MemoryCheckpoint()
    assert run(fresh(tiny_model_folder), checkpoint=checkpoint, stop_at=8) is None
    assert checkpoint.data is not None
    resumed = fresh(tiny_model_folder)
    steps = []
    trainer = ConceptTrainer(resumed, SETTINGS)
    again = trainer.train(make_task(), checkpoint, lambda step, _: steps.append(step))
    assert steps == list(range(6, 13))
    assert learned_bytes(resumed, make_task()) == want
    assert again[-1] == curve[-1]


def test_a_checkpoint_of_another_task_or_broken_bytes_start_afresh(tiny_model_folder):
    checkpoint = MemoryCheckpoint()
    run(fresh(tiny_model_folder), checkpoint=checkpoint, stop_at=8)
    other, plain = fresh(tiny_model_folder), fresh(tiny_model_folder)
    run(other, make_task(fingerprint="g"), checkpoint)
    run(plain, make_task(fingerprint="g"))
    assert learned_bytes(other, make_task()) == learned_bytes(plain, make_task())
    checkpoint.data = b"not a state"
    run(fresh(tiny_model_folder), checkpoint=checkpoint, stop_at=2)


def test_training_lowers_the_loss_and_leaves_base_and_neighbours_alone(engine):
    run(engine, make_task("B", placeholder_tokens=("<B:0>",)))
    neighbour = learned_bytes(engine, make_task("B", placeholder_tokens=("<B:0>",)))
    base = [p.clone() for p in engine.base.text_encoder.parameters() if p.shape[0] > 100]
    curve = run(engine, settings=LearningSettings(steps=120, latent_views=5, adapter_lr=1e-2))
    assert np.mean([loss for _, loss in curve[-3:]]) < np.mean([loss for _, loss in curve[:3]])
    assert learned_bytes(engine, make_task("B", placeholder_tokens=("<B:0>",))) == neighbour
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
        "shared", placeholder_tokens=("<C:0>",), fresh_slot=False, prior=prior, exemplars=exemplars
    )
    names: set[str] = set()
    original = LossTerms.of_step

    def spy(*args):
        found = original(*args)
        names.update(found)
        return found

    monkeypatch.setattr(LossTerms, "of_step", spy)
    ConceptTrainer(engine, SETTINGS).train(task, MemoryCheckpoint(), lambda *_: None)
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
    assert run(fresh(folder)) is not None


def test_a_loss_that_is_no_number_stops_the_task(engine):
    huge = SETTINGS.model_copy(update={"adapter_lr": 1e30})
    with pytest.raises(LearningError, match="adapter_lr"):
        ConceptTrainer(engine, huge).train(make_task(), MemoryCheckpoint(), lambda *_: None)


def test_learning_rate_warms_up_stays_and_falls():
    schedule = PlateauSchedule(100, EarlyStopSettings())
    factors = [schedule.factor(step) for step in range(100)]
    assert schedule.last_step == 100
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:60] == [1.0] * 50
    assert all(a >= b for a, b in itertools.pairwise(factors[60:]))
    assert factors[-1] < 0.06
