from __future__ import annotations

import pytest
import torch

from catalog_pipeline.generation.concept_attention import (
    dynamic_attend_loss,
    strengths,
    unmix_loss,
)


def halves(batch: int = 1, side: int = 4) -> torch.Tensor:
    masks = torch.zeros(batch, 2, side, side)
    masks[:, 0, :, : side // 2] = 1
    masks[:, 1, :, side // 2 :] = 1
    return masks


def some_maps(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_unmix_is_what_a_slow_loop_says():
    maps, masks = some_maps(3, 2, 4, 4), halves(3)
    expected = []
    for image in range(3):
        total = 0.0
        for concept in range(2):
            inside = sum(
                float(maps[image, concept, y, x] * masks[image, concept, y, x])
                for y in range(4)
                for x in range(4)
            )
            total += (1 - inside / float(maps[image, concept].sum())) ** 2
        expected.append(total / 2)
    assert torch.allclose(unmix_loss(maps, masks), torch.tensor(expected), atol=1e-6)


def test_unmix_is_zero_inside_and_one_outside():
    masks = halves()
    assert unmix_loss(0.3 * masks, masks).item() == pytest.approx(0)
    assert unmix_loss(0.3 * masks.flip(1), masks).item() == pytest.approx(1)


def test_attend_is_zero_for_even_concepts_and_grows_with_the_gap():
    masks = halves()
    even = 0.4 * masks
    uneven = even * torch.tensor([1.0, 0.25])[None, :, None, None]
    silent = even * torch.tensor([1.0, 0.0])[None, :, None, None]
    losses = [dynamic_attend_loss(m, masks, 0.1).item() for m in (even, uneven, silent)]
    assert losses == pytest.approx([0, 0.75, 1])


def test_two_silent_concepts_are_not_even():
    masks = halves()
    assert dynamic_attend_loss(0.01 * masks, masks, floor=0.1).item() == pytest.approx(0.9)


def test_only_the_weakest_concept_gets_a_gradient_of_attend():
    masks = halves()
    maps = (0.4 * masks * torch.tensor([1.0, 0.5])[None, :, None, None]).requires_grad_(True)
    dynamic_attend_loss(maps, masks, 0.1).sum().backward()
    assert maps.grad is not None
    assert maps.grad[0, 0].abs().sum() == 0
    assert maps.grad[0, 1].min() < 0  # stronger attention lowers the loss


def test_strength_is_read_inside_the_region_only():
    masks = halves()
    assert strengths(masks.flip(1), masks).amax() < 0.2  # what the smoothing carries over
    assert strengths(masks, masks).tolist() == [[pytest.approx(1), pytest.approx(1)]]


@pytest.mark.parametrize("loss", [unmix_loss, lambda a, m: dynamic_attend_loss(a, m, 2.0)])
def test_gradients_are_those_of_the_formulas(loss):
    maps = some_maps(2, 2, 4, 4).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda a: loss(a, halves(2).double()), (maps,))
