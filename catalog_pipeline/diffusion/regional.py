"""Cross-attention in which every image region reads its own prompt.

With regions ``r``, texts ``c_r`` and masks ``m_r`` (summing to 1 at each pixel)::

    A(p) = sum_r m_r(p) * softmax(Q(p) K(c_r)^T / sqrt(d)) V(c_r)

Region prompting after Mix-of-Show, arXiv:2305.18292, section 4.2. **Our
reconstruction**: soft masks, and a background region that reads the whole scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class AttentionObserver(Protocol):
    """Sees cross-attention as it is computed, or changes it."""

    def wants(self, pixels: int) -> bool:
        """Whether layers of ``pixels`` pixels are to be shown to :meth:`observe`."""
        ...

    def observe(self, probs: Tensor) -> None:
        """Attention of one layer, ``(batch, regions, pixels, tokens)``, mean of its heads, fp32."""
        ...

    def bias(self, pixels: int) -> Tensor | None:
        """Added to the logits: ``(batch, regions, pixels, tokens)`` or ``None`` for nothing."""
        ...


class RegionalContext:
    """The texts and masks that the processors of one denoiser read during a forward pass.

    ``encoder_hidden_states`` is ``(batch, regions, tokens, width)``, ``masks``
    ``(batch, regions, height, width)``, ``valid`` ``(batch, regions, tokens)``, false at
    padding that nobody may read; all ``None`` outside :meth:`reading`.
    ``observer`` is called at every attention to text, where there is one.
    """

    def __init__(self) -> None:
        self.encoder_hidden_states: Tensor | None = None
        self.masks: Tensor | None = None
        self.valid: Tensor | None = None
        self.observer: AttentionObserver | None = None
        self.kept: dict[Any, Tensor] = {}
        """What layers share during one pass."""
        self.holders: list[Callable[[], Callable[[], AbstractContextManager[None]]]] = []
        """Of whoever else has a state during a pass: called, each holds on to it and gives a
        function of which the context puts it back."""

    @contextmanager
    def reading(
        self, encoder_hidden_states: Tensor, masks: Tensor | None, valid: Tensor | None = None
    ) -> Iterator[None]:
        """Use these for the forward passes inside the block."""
        with self._state(encoder_hidden_states, masks, valid, {}):
            yield

    @contextmanager
    def _state(
        self,
        encoder_hidden_states: Tensor | None,
        masks: Tensor | None,
        valid: Tensor | None,
        kept: dict[Any, Tensor],
    ) -> Iterator[None]:
        before = self.encoder_hidden_states, self.masks, self.valid, self.kept
        self.encoder_hidden_states, self.masks, self.valid = encoder_hidden_states, masks, valid
        self.kept = kept
        try:
            yield
        finally:
            self.encoder_hidden_states, self.masks, self.valid, self.kept = before

    def hold(self) -> HeldPass:
        """The state of the pass under way, for when a part of it is computed once more."""
        state = self.encoder_hidden_states, self.masks, self.valid, self.kept
        return HeldPass((lambda: self._state(*state), *(holder() for holder in self.holders)))


class HeldPass:
    """A context in which what a forward pass reads is as it was; may be entered again."""

    def __init__(self, states: tuple[Callable[[], AbstractContextManager[None]], ...]) -> None:
        self._states = states
        self._entered: list[ExitStack] = []

    def __enter__(self) -> None:
        stack = ExitStack()
        for state in self._states:
            stack.enter_context(state())
        self._entered.append(stack)

    def __exit__(self, *error: object) -> None:
        self._entered.pop().close()


class RegionalAttnProcessor:
    """A diffusers attention processor for ``attn2`` that reads a :class:`RegionalContext`.

    Without ``text_gradient`` no gradient reaches the text through this layer, so that a
    backward pass ends at the first block that is trained.
    """

    def __init__(self, context: RegionalContext, *, text_gradient: bool = True) -> None:
        self._context = context
        self._text_gradient = text_gradient

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """``(batch, pixels, width)`` -> the same; 4-d inputs are not used by SD UNets."""
        del attention_mask, temb
        texts = self._context.encoder_hidden_states
        if texts is None:
            assert encoder_hidden_states is not None
            texts = encoder_hidden_states[:, None]
        if not self._text_gradient:
            texts = texts.detach()
        batch, regions = texts.shape[:2]
        pixels, heads = hidden_states.shape[1], attn.heads
        text = texts.flatten(0, 1).to(hidden_states.dtype)  # (batch * regions, tokens, width)
        key, value = attn.to_k(text), attn.to_v(text)
        query = attn.to_q(hidden_states).repeat_interleave(regions, 0)
        out = self._attend(query, key, value, heads, regions).unflatten(0, (batch, regions))
        if regions == 1:
            blended = out[:, 0]
        else:
            assert self._context.masks is not None
            masks = resize_masks(self._context.masks, pixels).to(out.dtype)
            blended = torch.einsum("brpd,brp->bpd", out, masks)
        return attn.to_out[1](attn.to_out[0](blended))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, heads: int, regions: int
    ) -> Tensor:
        """:func:`attend`, watched and biased by the observer; rows are ``batch * regions``."""
        observer, pixels = self._context.observer, query.shape[1]
        if observer is None:
            return attend(query, key, value, heads)
        bias = observer.bias(pixels)
        bias = None if bias is None else bias.flatten(0, 1)[:, None]  # (rows, 1, pixels, tokens)
        if not observer.wants(pixels):
            return attend(query, key, value, heads, bias)
        out, probs = attend_openly(query, key, value, heads, bias)
        observer.observe(probs.unflatten(0, (-1, regions)))
        return out


class SelfAttnProcessor:
    """A diffusers attention processor for ``attn1``: pixels read each other."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """``(batch, pixels, width)`` -> the same."""
        del attention_mask, temb, encoder_hidden_states
        query, key, value = (f(hidden_states) for f in (attn.to_q, attn.to_k, attn.to_v))
        out = attend(query, key, value, attn.heads)
        return attn.to_out[1](attn.to_out[0](out))


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None = None
) -> Tensor:
    """``softmax(Q K^T / sqrt(d) + bias) V`` for every head.

    On a CPU half precision is computed in fp32: the fused kernel is up to three
    times as fast there with a gradient, and no slower without.

    Args:
        query: ``(rows, pixels, heads * d)``; ``key``, ``value``: ``(rows, tokens, heads * d)``;
            ``bias``: ``(rows, 1 or heads, pixels, tokens)``.

    Returns:
        ``(rows, pixels, heads * d)`` in the dtype of ``query``.
    """
    dtype = query.dtype
    if query.device.type == "cpu":
        query, key, value = query.float(), key.float(), value.float()
    query, key, value = _split(query, heads), _split(key, heads), _split(value, heads)
    if bias is not None:
        bias = bias.to(query)
    out = nn.functional.scaled_dot_product_attention(query, key, value, bias)
    return out.transpose(1, 2).flatten(2).to(dtype)


def attend_openly(
    query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """:func:`attend` in fp32, and its probabilities ``(rows, pixels, tokens)``, mean of the heads.

    Differentiable in both.
    """
    dtype = query.dtype
    query, key, value = (_split(x.float(), heads) for x in (query, key, value))
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if bias is not None:
        logits = logits + bias.to(logits)
    probs = logits.softmax(-1)  # (rows, heads, pixels, tokens)
    out = (probs @ value).transpose(1, 2).flatten(2).to(dtype)
    return out, probs.mean(1)


def _split(x: Tensor, heads: int) -> Tensor:
    """``(rows, positions, heads * d)`` -> ``(rows, heads, positions, d)``."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def install_regional_attention(
    unet: Any, context: RegionalContext, trained: tuple[str, ...] = ("",)
) -> None:
    """Give every attention of ``unet`` its processor; the cross-attentions read ``context``.

    Only those whose path begins with one of ``trained`` let a gradient reach the text.
    """
    for name, module in unet.named_modules():
        if name.endswith("attn1"):
            module.set_processor(SelfAttnProcessor())
        elif name.endswith("attn2"):
            gradient = name.startswith(trained)
            module.set_processor(RegionalAttnProcessor(context, text_gradient=gradient))


def resize_masks(masks: Tensor, positions: int) -> Tensor:
    """``(batch, regions, h, w)`` -> ``(batch, regions, positions)``, area-averaged."""
    grid = layer_grid(positions, *masks.shape[-2:])
    return nn.functional.interpolate(masks, grid, mode="area").flatten(2)


def layer_grid(positions: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a layer of ``positions``, of a picture that is ``height`` x ``width``.

    A level of a denoiser has half the rows and columns of the one before, rounded up, as a
    convolution of stride 2 leaves them: 64 x 33, 32 x 17, 16 x 9, 8 x 5. ``height`` and
    ``width`` are of any of them, or of a finer raster by a power of two; from another
    raster only the ratio of the sides is taken.
    """
    rows, columns = height, width
    while rows * columns > positions:
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    if rows * columns != positions:
        rows = round(math.sqrt(positions * height / width))
        columns = positions // rows
    return rows, columns
