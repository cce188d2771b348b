"""The fused product of a layer and its delta, against the plain expression."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from catalog_pipeline.diffusion.routed_linear import _ProductWithDelta

ROWS, POSITIONS, IN, OUT, RANK = 3, 5, 4, 6, 2


def _inputs(a_matrix_a_row: bool, masked: bool, bias: bool) -> tuple[Tensor | None, ...]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, trained: bool = False) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return values.requires_grad_(trained)

    rows = (ROWS,) if a_matrix_a_row else ()
    return (
        draw(ROWS, POSITIONS, IN, trained=True),
        draw(OUT, IN),
        draw(OUT) if bias else None,
        draw(*rows, RANK, IN, trained=True),
        draw(*rows, OUT, RANK, trained=True),
        draw(ROWS, POSITIONS, RANK).abs() if masked else None,
    )


def _plainly(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, mask: Tensor
) -> Tensor:
    inner = hidden @ down.mT
    inner = inner if mask is None else inner * mask
    return torch.nn.functional.linear(hidden, weight, bias) + inner @ up.mT


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "everywhere"])
@pytest.mark.parametrize("rows", [True, False], ids=["a delta a row", "one delta"])
def test_value_and_gradients_are_those_of_the_plain_expression(rows, masked, bias) -> None:
    inputs = _inputs(rows, masked, bias)
    assert torch.allclose(_ProductWithDelta.apply(*inputs), _plainly(*inputs))
    assert torch.autograd.gradcheck(_ProductWithDelta.apply, inputs)


def test_half_precision_inputs_give_trained_factors_gradients_of_their_own_precision() -> None:
    hidden, weight, bias, down, up, _ = _inputs(False, False, True)
    factors = [x.detach().float().requires_grad_() for x in (down, up)]
    half = [x.detach().bfloat16() for x in (hidden, weight, bias)]
    out = _ProductWithDelta.apply(*half, *factors, None)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    exact = _plainly(*(x.float() for x in half), *factors, None)
    wanted = torch.autograd.grad(exact.square().sum(), factors)
    for factor, gradient in zip(factors, wanted, strict=True):
        assert factor.grad.dtype == torch.float32
        assert torch.allclose(factor.grad, gradient, rtol=0.05, atol=0.05 * float(gradient.std()))


def test_the_input_alone_can_have_a_gradient() -> None:
    hidden, weight, bias, down, up, mask = _inputs(False, True, True)
    out = _ProductWithDelta.apply(hidden, weight, bias, down.detach(), up.detach(), mask)
    (gradient,) = torch.autograd.grad(out.sum(), hidden)
    assert torch.allclose(gradient, weight.sum(0) + (mask * up.sum(0)) @ down)
