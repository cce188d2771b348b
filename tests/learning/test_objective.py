from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from catalog_pipeline.learning.objective import (
    distillation_loss,
    noise_loss,
    prediction_target,
    total_loss,
)
from catalog_pipeline.settings import LossSettings


def scheduler(kind: str) -> DDIMScheduler:
    return DDIMScheduler(prediction_type=kind, steps_offset=1)


def test_target_is_the_noise_or_the_velocity_of_a_slow_loop():
    z, eps = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    times = torch.tensor([0, 500, 999])
    assert torch.equal(prediction_target(scheduler("epsilon"), z, eps, times), eps)
    velocity = prediction_target(scheduler("v_prediction"), z, eps, times)
    for image, t in enumerate(times.tolist()):
        a = scheduler("v_prediction").alphas_cumprod[t]
        want = a.sqrt() * eps[image] - (1 - a).sqrt() * z[image]
        torch.testing.assert_close(velocity[image], want)


def test_other_prediction_types_are_refused():
    z = torch.zeros(1, 1, 1, 1)
    with pytest.raises(ValueError, match="sample"):
        prediction_target(scheduler("sample"), z, z, torch.tensor([1]))


def test_noise_loss_equals_a_slow_loop_eq_3():
    pred, target, weight = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    got = noise_loss(pred, target, weight)
    for image in range(2):
        total = norm = 0.0
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    w = float(weight[image, 0, y, x])
                    total += w * float(pred[image, c, y, x] - target[image, c, y, x]) ** 2
                    norm += w
        assert float(got[image]) == pytest.approx(total / norm, rel=1e-5)
    ones = torch.ones(2, 1, 4, 5)
    torch.testing.assert_close(noise_loss(pred, target, ones), noise_loss(pred, target))


def test_pixels_of_weight_zero_carry_no_gradient():
    pred = torch.randn(1, 2, 2, 2, requires_grad=True)
    weight = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]])
    noise_loss(pred, torch.zeros(1, 2, 2, 2), weight).sum().backward()
    assert torch.equal(pred.grad[..., 0, 1], torch.zeros(1, 2))
    assert (pred.grad[..., 0, 0] != 0).all()


def test_distillation_reaches_the_student_only_eq_6():
    student = torch.randn(2, 1, 2, 2, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(2, 1, 2, 2, dtype=torch.double, requires_grad=True)
    loss = distillation_loss(student, teacher)
    assert loss.shape == (2,)
    torch.testing.assert_close(loss, ((student - teacher) ** 2).mean((1, 2, 3)))
    loss.sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert torch.equal(distillation_loss(student, student), torch.zeros(2, dtype=torch.double))
    fixed = teacher.detach()
    assert torch.autograd.gradcheck(lambda s: distillation_loss(s, fixed), (student,))
    weight = torch.rand(2, 1, 2, 2, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda s: noise_loss(s, fixed, weight), (student,))


def test_total_is_the_weighed_sum_of_batch_means_eq_7():
    terms = {
        "concept": torch.tensor([1.0, 3.0]),
        "prior": torch.tensor([4.0]),
        "replay": torch.tensor([10.0, 20.0]),
        "distillation": torch.tensor([5.0]),
    }
    weights = LossSettings(prior_weight=0.5, replay_weight=0.1, distillation_weight=2.0)
    assert float(total_loss(terms, weights)) == pytest.approx(2 + 0.5 * 4 + 0.1 * 15 + 2 * 5)
    assert float(total_loss({"concept": terms["concept"]}, weights)) == 2.0
