from __future__ import annotations

import math

import pytest
import torch

from catalog_pipeline.generation.orthogonal_attention import binding_loss, orthogonal_loss


def some_maps(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_orthogonal_is_what_a_slow_loop_says():
    maps = some_maps(2, 3, 2, 4, 4)
    expected = []
    for image in maps.mean(2):
        total, pairs = 0.0, 0
        for i in range(3):
            for j in range(i + 1, 3):
                a, b = (image[k].flatten() - image[k].mean() for k in (i, j))
                cosine = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
                total, pairs = total + max(0.0, cosine) ** 2, pairs + 1
        expected.append(total / pairs)
    assert torch.allclose(orthogonal_loss(maps), torch.tensor(expected), atol=1e-6)


def test_orthogonal_tells_same_from_different_places():
    left = torch.zeros(4, 4)
    left[:, :2] = 0.5
    same = torch.stack([left, left])[None, :, None].expand(1, 2, 2, 4, 4)
    apart = torch.stack([left, 0.5 - left])[None, :, None].expand(1, 2, 2, 4, 4)
    assert orthogonal_loss(same).item() == pytest.approx(1, abs=1e-5)
    assert orthogonal_loss(apart).item() == 0
    assert orthogonal_loss(same[:, :1]).tolist() == [0.0]


def test_binding_is_what_a_slow_loop_says():
    maps = some_maps(2, 2, 2, 3, 3)
    expected = []
    for image in maps:
        total = 0.0
        for attribute, noun in image:
            p, q = attribute.flatten() / attribute.sum(), noun.flatten() / noun.sum()
            for a, b in zip(p.tolist(), q.tolist(), strict=True):
                total += 0.5 * a * math.log(2 * a / (a + b)) + 0.5 * b * math.log(2 * b / (a + b))
        expected.append(total / math.log(2) / 2)
    assert torch.allclose(binding_loss(maps), torch.tensor(expected), atol=1e-5)


def test_binding_is_zero_for_the_same_place_and_one_for_different_ones():
    left = torch.zeros(4, 4)
    left[:, :2] = 1.0
    together = torch.stack([left, 0.1 * left])[None, None]
    apart = torch.stack([left, 1 - left])[None, None]
    assert binding_loss(together).item() == pytest.approx(0, abs=1e-6)
    assert binding_loss(apart).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("loss", [orthogonal_loss, binding_loss])
def test_gradients_are_those_of_the_formulas(loss):
    maps = (0.1 + some_maps(2, 2, 2, 3, 3)).double().requires_grad_(True)
    assert torch.autograd.gradcheck(loss, (maps,))
