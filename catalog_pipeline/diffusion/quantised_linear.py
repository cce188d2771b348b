"""Frozen linear layers whose weights are kept in fewer bits.

========  ==========================================================  =================
kind      the weight ``W`` (out, in)                                  bytes a weight
========  ==========================================================  =================
``int8``  ``codes * scale``, one scale a row, the largest weight of   1 + 4 / in
          which is 127
``nf4``   4-bit NormalFloat in blocks of 64 with a scale each,        1/2 + 4 / 64
          arXiv:2305.14314, section 3; no double quantisation
========  ==========================================================  =================

A product makes the weight anew in the dtype of its input and lets go of it; the backward
pass makes it once more, so that nothing of full size is kept.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from catalog_pipeline.errors import ConfigurationError

Kind = Literal["int8", "nf4"]
NF4_BLOCK = 64


class QuantisedLinear(nn.Linear):
    """A frozen linear layer in ``int8`` or ``nf4``.

    It is an ``nn.Linear`` without a parameter: ``weight`` is computed when it is asked for.
    """

    def __init__(self, linear: nn.Linear, kind: Kind, device: torch.device) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.kind: Kind = kind
        self.dtype = linear.weight.dtype
        weight = linear.weight.detach().to(device)
        codes, scale, code_book = _int8(weight) if kind == "int8" else _nf4(weight)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("code_book", code_book)
        bias = None if linear.bias is None else linear.bias.detach().to(device)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """``(out, in)`` in the dtype that the layer was opened in, made anew at each call."""
        return self._restore(self.codes, self.scale, self.code_book, self.dtype)

    @property
    def outline(self) -> Tensor:
        """A tensor of the weight's shape, dtype and device that takes no memory, all ones."""
        assert isinstance(self.scale, Tensor)
        one = torch.ones((), dtype=self.dtype, device=self.scale.device)
        return one.expand(self.out_features, self.in_features)

    # Left out of a compiled block: it calls kernels that torch.compile does not look into.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, hidden_states: Tensor) -> Tensor:
        """``(..., in)`` -> ``(..., out)`` in the dtype of ``hidden_states``."""
        product = _QuantisedProduct.apply(  # type: ignore[no-untyped-call]
            hidden_states, self.codes, self.scale, self.code_book, self.bias, self._restore
        )
        assert isinstance(product, Tensor)
        return product

    def _restore(self, codes: Any, scale: Any, code_book: Any, dtype: torch.dtype) -> Tensor:
        if self.kind == "int8":
            return (codes * scale).to(dtype)
        shape = (self.out_features, self.in_features)
        return _from_nf4(codes, scale, code_book, shape, dtype)


class _QuantisedProduct(torch.autograd.Function):
    """``x W^T + b`` with a frozen ``W``, which ``restore`` makes of its codes."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: Tensor,
        codes: Tensor,
        scale: Tensor,
        code_book: Tensor | None,
        bias: Tensor | None,
        restore: Callable[..., Tensor],
    ) -> Tensor:
        """``(..., in)`` -> ``(..., out)``."""
        ctx.save_for_backward(codes, scale, code_book)
        ctx.restore = restore
        dtype = hidden_states.dtype
        weight = restore(codes, scale, code_book, dtype)
        return nn.functional.linear(hidden_states, weight, None if bias is None else bias.to(dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of ``hidden_states``; all else is frozen."""
        return grad @ ctx.restore(*ctx.saved_tensors, grad.dtype), None, None, None, None, None


def quantise_layers(module: nn.Module, kind: Kind, device: torch.device, classes: Any) -> int:
    """Replace the linear layers inside submodules of ``classes`` (names); how many.

    A layer is quantised on ``device`` and stays there: no more than one is there at full size.

    Raises:
        ConfigurationError: ``nf4`` without bitsandbytes.
    """
    if kind == "nf4":
        _bitsandbytes()
    found = {
        f"{outer}.{name}" if outer else name: layer
        for outer, block in module.named_modules()
        if type(block).__name__ in classes
        for name, layer in block.named_modules()
        if type(layer) is nn.Linear
    }
    for path, layer in found.items():
        module.set_submodule(path, QuantisedLinear(layer, kind, device))
    return len(found)


def _int8(weight: Tensor) -> tuple[Tensor, Tensor, None]:
    exact = weight.float()
    scale = exact.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return (exact / scale).round().to(torch.int8), scale, None


def _nf4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    codes, state = _bitsandbytes().quantize_4bit(
        weight.contiguous(), blocksize=NF4_BLOCK, quant_type="nf4", compress_statistics=False
    )
    return codes, state.absmax, state.code


def _from_nf4(
    codes: Tensor, scale: Tensor, code_book: Tensor, shape: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    functional = _bitsandbytes()
    state = functional.QuantState(
        absmax=scale,
        shape=torch.Size(shape),
        code=code_book,
        blocksize=NF4_BLOCK,
        quant_type="nf4",
        dtype=dtype,
    )
    weight = functional.dequantize_4bit(codes, state)
    assert isinstance(weight, Tensor)
    return weight


def _bitsandbytes() -> Any:
    try:
        return importlib.import_module("bitsandbytes.functional")
    except ImportError as error:
        raise ConfigurationError(
            "base_model.yaml: quantise is nf4, which needs bitsandbytes, and it cannot be "
            f"imported ({error}); install it with pip install 'catalog-pipeline[quantise]', or "
            "set quantise: int8"
        ) from error
