"""Each method's own term, against a slow loop and at the points where it must be zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.adapter import whole_image
from catalog_pipeline.learning.methods.c_lora import SUM, CLora, CLoraPenalty, past_deltas
from catalog_pipeline.learning.methods.ewc import Ewc, EwcPenalty, diagonal_fisher
from catalog_pipeline.learning.methods.lwf import Lwf, LwfPenalty
from catalog_pipeline.learning.methods.sequence import TaskSequence
from catalog_pipeline.learning.objective import noise_loss
from catalog_pipeline.learning.pool import training_pool
from catalog_pipeline.learning.regulariser import StepContext
from catalog_pipeline.learning.task import TEACHER_SLOT, LearningTask, Subject
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.settings import LearningSettings
from tests.learning.methods.conftest import tensors_of
from tests.tiny_model import fill_slot


def context(engine, rows: int = 2, seed: int = 0) -> StepContext:
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randn(rows, 4, 4, 4, generator=generator)
    return StepContext(engine, noisy, torch.arange(rows) * 300 + 50, noisy, generator)


def test_ewc_penalty_is_the_slow_loop_and_zero_at_its_anchor(engine):
    fill_slot(engine, "shared", 0, scale=1.0)
    parameters = engine.adapter.parameters_of("shared")
    fisher = [torch.rand(p.shape) for p in parameters]
    here = [p.detach().clone() for p in parameters]
    assert EwcPenalty("shared", fisher, here, 3.0).loss(context(engine)).item() == 0
    anchor = [p.detach() + 0.1 * torch.randn(p.shape) for p in parameters]
    penalty = EwcPenalty("shared", fisher, anchor, 3.0)
    want = 0.0
    for f, theta, star in zip(fisher, here, anchor, strict=True):
        for a, b, c in zip(*(x.flatten().tolist() for x in (f, theta, star)), strict=True):
            want += a * (b - c) ** 2 / 2
    loss = penalty.loss(context(engine))
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(want, rel=1e-5)
    assert penalty.weight == 3.0
    (grad,) = torch.autograd.grad(loss.sum(), parameters[:1])
    assert torch.allclose(grad, fisher[0] * (here[0] - anchor[0]), atol=1e-6)


def test_fisher_is_the_mean_of_squared_gradients_of_single_views(engine, news):
    fill_slot(engine, "shared", 1, scale=1.0)
    concept = news[0].concept
    tokens = concept.placeholder_tokens
    for token in tokens:
        engine.text.table.add(token, engine.text.initial_vector("mug"))
    settings = LearningSettings()
    subject = Subject(concept, news[0].photos, "shared")
    task = LearningTask((subject,), (), "f", 0)
    pool = training_pool(engine, news[0].photos, (), 0, 2)
    (views,) = pool.sizes
    found = diagonal_fisher(engine, settings, task, pool, 3, 5)
    parameters = engine.adapter.parameters_of("shared")
    assert not any(p.requires_grad for p in parameters)

    step = TrainingStep(engine, settings, task, (pool,))
    generator = torch.Generator().manual_seed(5)
    want = [torch.zeros_like(p) for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    for _ in range(3):
        chosen = torch.randint(4, (1,), generator=generator)
        noise, timesteps = step.draw(views.latents[chosen], generator)
        noisy = engine.base.add_noise(views.latents[chosen], noise, timesteps)
        target = engine.base.target(views.latents[chosen], noise, timesteps)
        prompt = views.instance_prompts[int(chosen)].format(concept=concept.identifier)
        text = engine.text.encode([prompt])[:, None]
        model_pred = engine.predict(noisy, timesteps, text, None, whole_image(["shared"]))
        noise_loss(model_pred, target, views.weights[chosen]).mean().backward()
        for total, parameter in zip(want, parameters, strict=True):
            total += parameter.grad**2 / 3
            parameter.grad = None
    for a, b in zip(found, want, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-12)
    assert sum(float(f.sum()) for f in found) > 0


def test_online_ewc_adds_fishers_and_holds_the_weights(news, open_context):
    moved = {}
    for weight in (0.0, 1e9):
        method = TaskSequence(Ewc(open_context(), weight=weight, decay=0.5))
        method.learn(news[0])
        first = tensors_of(method.state())
        method.learn(news[1])
        second = tensors_of(method.state())
        slot = [key for key in first if key.startswith("shared/slot/")]
        moved[weight] = sum(float((first[key] - second[key]).abs().sum()) for key in slot)
        fishers = [key for key in first if key.startswith("fisher/")]
        assert len(fishers) == len(slot)
        assert all(bool((second[key] >= 0.5 * first[key]).all()) for key in fishers)
    assert moved[1e9] < moved[0.0]


def test_c_lora_penalty_is_the_slow_loop_over_the_sum_of_earlier_deltas(engine):
    for index, slot in enumerate(("A", "B", "C")):
        fill_slot(engine, slot, index, scale=1.0)
    adapter = engine.adapter
    adapter.compose(SUM, {"A": 1.0, "B": 1.0})
    penalty = CLoraPenalty("C", past_deltas(adapter), 1.0)
    want = 0.0
    for layer in adapter.layers_of("C").values():
        a, b, c = (layer.tensors(slot) for slot in ("A", "B", "C"))
        for row in range(layer.base.weight.shape[0]):
            for column in range(layer.base.weight.shape[1]):
                past, new = 0.0, 0.0
                for k in range(2):
                    past += (a["up"][row, k] * a["down"][k, column]).item()
                    past += (b["up"][row, k] * b["down"][k, column]).item()
                    new += (c["up"][row, k] * c["down"][k, column]).item()
                want += (abs(past) * new) ** 2
        break
    name = next(iter(adapter.layers_of("C")))
    adapter.layers = {name: adapter.layers[name]}
    assert penalty.loss(context(engine)).item() == pytest.approx(want, rel=1e-4)


def test_c_lora_penalty_is_zero_where_the_supports_are_disjoint(engine):
    for index, slot in enumerate(("A", "B")):
        fill_slot(engine, slot, index, scale=1.0)
    with torch.no_grad():
        for layer in engine.adapter.layers_of("A").values():
            half = layer.base.weight.shape[0] // 2
            layer.tensors("A")["up"][half:] = 0
            layer.tensors("B")["up"][:half] = 0
    disjoint = CLoraPenalty("B", past_deltas(engine.adapter, "A"), 1.0)
    assert disjoint.loss(context(engine)).item() == 0
    same = CLoraPenalty("A", past_deltas(engine.adapter, "A"), 1.0)
    loss = same.loss(context(engine))
    assert loss.item() > 0
    assert torch.autograd.grad(loss.sum(), engine.adapter.parameters_of("A"))[0].any()


def test_c_lora_keeps_earlier_slots_and_shows_the_sum_to_every_prompt(news, open_context):
    sequence = TaskSequence(CLora(open_context()))
    method = sequence.method
    sequence.learn(news[0])
    before = sequence.state()
    sequence.learn(news[1])
    after = sequence.state()
    assert before == {key: after[key] for key in before}
    assert method.regional_prompt("a photo of a mug", None).slots == (SUM,)
    assert method.regional_prompt("a {concept}", news[0].concept).slots == (SUM,)


def test_lwf_penalty_is_the_squared_distance_to_the_teacher_under_its_prompts(engine):
    fill_slot(engine, "shared", 0, scale=1.0)
    fill_slot(engine, TEACHER_SLOT, 1, scale=1.0)
    penalty = LwfPenalty("shared", TEACHER_SLOT, ["red hat"], "mug", 2, 1.0)
    loss = penalty.loss(context(engine, rows=3, seed=4))
    assert loss.shape == (2,)
    plain = context(engine, rows=3, seed=4)
    for row in range(2):
        sides = int(torch.randint(2, (1,), generator=plain.generator))
        if not sides:
            torch.randint(1, (1,), generator=plain.generator)
        prompt = f"a photo of a {'mug' if sides else 'red hat'}"
        hidden = engine.text.encode([prompt])[:, None]
        noisy, times = plain.noisy_latents[row : row + 1], plain.timesteps[row : row + 1]
        answers = [
            engine.predict(noisy, times, hidden, None, whole_image([slot]))
            for slot in (TEACHER_SLOT, "shared")
        ]
        pairs = zip(*(x.flatten().tolist() for x in answers), strict=True)
        want = np.mean([(a - b) ** 2 for a, b in pairs])
        assert loss[row].item() == pytest.approx(want, rel=1e-4)


def test_lwf_penalty_is_zero_for_the_teacher_itself_and_trains_the_student_alone(engine):
    fill_slot(engine, "shared", 0, scale=1.0)
    engine.adapter.copy_slot("shared", TEACHER_SLOT)
    same = LwfPenalty("shared", TEACHER_SLOT, ["red hat"], "mug", 2, 1.0)
    assert same.loss(context(engine)).sum().item() == pytest.approx(0, abs=1e-10)
    loss = LwfPenalty("shared", None, [], "mug", 2, 1.0).loss(context(engine))
    assert loss.sum().item() > 0
    assert torch.autograd.grad(loss.sum(), engine.adapter.parameters_of("shared"))[0].any()


def test_lwf_teaches_from_the_slot_before_the_task(news, open_context):
    sequence = TaskSequence(Lwf(open_context()))
    adapter = sequence.method.engine.adapter
    sequence.learn(news[0])
    assert TEACHER_SLOT not in adapter.slots
    before = adapter.slot_tensors("shared")
    sequence.learn(news[1])
    teacher = adapter.slot_tensors(TEACHER_SLOT)
    assert all(torch.equal(before[key], teacher[key]) for key in before)
