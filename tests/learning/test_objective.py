from __future__ import annotations

import pytest
import torch

from catalog_pipeline.learning.objective import (
    distillation_loss,
    noise_loss,
    total_loss,
)
from catalog_pipeline.settings import LossSettings


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


# --- invariants --------------------------------------------------------------


def test_noise_loss_is_zero_at_the_target_and_symmetric():
    pred, target, weight = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    assert torch.equal(noise_loss(target, target, weight), torch.zeros(2))
    torch.testing.assert_close(noise_loss(pred, target, weight), noise_loss(target, pred, weight))
    assert bool((noise_loss(pred, target) > 0).all())


def test_noise_loss_grows_with_the_square_and_not_with_the_weights():
    pred, target, weight = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    loss = noise_loss(pred, target, weight)
    torch.testing.assert_close(noise_loss(3 * pred, 3 * target, weight), 9 * loss)
    torch.testing.assert_close(noise_loss(pred, target, 5 * weight), loss)


def test_each_image_has_its_own_loss():
    pred, target, weight = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2), torch.rand(4, 1, 2, 2)
    together = noise_loss(pred, target, weight)
    for image in range(4):
        one = slice(image, image + 1)
        alone = noise_loss(pred[one], target[one], weight[one])
        torch.testing.assert_close(alone[0], together[image])
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        noise_loss(pred[order], target[order], weight[order]), together[order]
    )


def test_total_is_linear_in_each_weight_and_takes_a_rivals_term_as_it_is_eq_7():
    names = ("concept", "prior", "replay", "distillation", "regulariser/0")
    terms = {name: torch.rand(3, dtype=torch.double) for name in names}
    free = LossSettings(prior_weight=0, replay_weight=0, distillation_weight=0)
    start = total_loss(terms, free)
    torch.testing.assert_close(start, terms["concept"].mean() + terms["regulariser/0"].mean())
    for name in ("prior", "replay", "distillation"):
        for weight in (0.3, 2.0):
            weighed = free.model_copy(update={f"{name}_weight": weight})
            got = total_loss(terms, weighed) - start
            torch.testing.assert_close(got, weight * terms[name].mean())


def test_total_has_the_gradient_of_a_weighed_mean_eq_7():
    weights = LossSettings(prior_weight=0.5, replay_weight=0.1, distillation_weight=2.0)
    names = ("concept", "prior", "replay", "distillation")
    values = tuple(torch.rand(n + 1, dtype=torch.double, requires_grad=True) for n in range(4))

    def total(*losses: torch.Tensor) -> torch.Tensor:
        return total_loss(dict(zip(names, losses, strict=True)), weights)

    assert torch.autograd.gradcheck(total, values)
    total(*values).backward()
    for n, (value, factor) in enumerate(zip(values, (1.0, 0.5, 0.1, 2.0), strict=True)):
        want = torch.full((n + 1,), factor / (n + 1), dtype=torch.double)
        torch.testing.assert_close(value.grad, want)
