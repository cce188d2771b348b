"""Joint attention, in which text and image are one sequence, by region.

The sequence is ``[text of region 0, ..., text of region R - 1, image]``. With masks ``m_r``
(summing to 1 at each pixel) the logits of a query ``q`` and a key ``k`` get a bias::

    q image, k image                         0
    q pixel p, k text of r                   log m_r(p)
    q text of r, k pixel p                   log m_r(p)
    q text of r, k text of r                 0
    q text of r, k text of another region    -inf

so that a pixel reads the text of its own region, and a text the pixels of its own: where a
region is the whole image, this is the attention of the base to one text. **Our own**: soft
masks, which a product of probabilities and masks turns into a bias; compare the hard ones of
Regional-Prompting-FLUX, arXiv:2411.02395.

What crosses a border between hard masks, as pixels read each other everywhere:

- Within one layer no text does, and of a slot's deltas those only that make keys and values of
  pixels: ``to_k`` and ``to_v`` of the image, and FLUX.2's fused ``to_qkv_mlp_proj``. With deltas
  on queries, outputs, feed-forwards and the text alone, the picture of two regions is cut out
  of the two pictures of its texts and slots.
- From the second layer on, pixels that a text or a slot has moved are read across the border,
  as in the self-attention of a UNet; docs/benchmarks/regions.md has how much.
- A text that stands twice, in two regions that share every pixel, is one text to the pixels of
  the first layer. Behind it each copy has read pixels at half their weight, or the half of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.regional import RegionalContext, resize_masks

_IMAGE_LAYERS = ("to_q", "to_k", "to_v", "norm_q", "norm_k")
_TEXT_LAYERS = ("add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k")
"""diffusers' names in the attention of a block of two streams."""


def joint_attend(query: Tensor, key: Tensor, value: Tensor, context: RegionalContext) -> Tensor:
    """Attention of the whole sequence, watched and biased by the context's observer.

    Args:
        query: ``(batch, regions * tokens + pixels, heads, d)``; ``key``, ``value`` alike.
        context: of the forward pass; its texts say how many regions and tokens there are.

    Returns:
        ``(batch, regions * tokens + pixels, heads * d)``.
    """
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    bias = _bias(context, query)
    if context.observer is not None:
        bias = _observed(context, query, key, bias)
    out = nn.functional.scaled_dot_product_attention(query, key, value, bias)
    return out.transpose(1, 2).flatten(2)


def joint_masks(context: RegionalContext, masks: Tensor, pixels: int) -> Tensor:
    """How much of each region acts at each position of the sequence.

    ``masks`` ``(batch, regions, h, w)`` -> ``(batch, regions, regions * tokens + pixels)``:
    a text belongs to its own region alone.
    """
    own = text_masks(context, masks)
    return torch.cat([own, resize_masks(masks, pixels)], 2) if pixels else own


def text_masks(context: RegionalContext, masks: Tensor) -> Tensor:
    """:func:`joint_masks` of the texts alone, ``(batch, regions, regions * tokens)``."""
    batch, regions = masks.shape[:2]
    own = torch.eye(regions, device=masks.device, dtype=masks.dtype)
    return own.repeat_interleave(text_length(context), 1).expand(batch, -1, -1)


def text_length(context: RegionalContext) -> int:
    """Tokens of the text of one region."""
    assert context.encoder_hidden_states is not None
    return int(context.encoder_hidden_states.shape[2])


def _bias(context: RegionalContext, query: Tensor) -> Tensor | None:
    """``(batch, 1, positions, positions)``, shared by the layers of a pass; ``None`` for zeros."""
    if context.masks is None and context.valid is None:
        return None
    key = ("joint", query.shape[2], query.dtype)
    if key not in context.kept:
        context.kept[key] = _make_bias(context, query.shape[2], query.dtype)
    return context.kept[key]


def _make_bias(context: RegionalContext, positions: int, dtype: torch.dtype) -> Tensor:
    assert context.encoder_hidden_states is not None
    batch, regions, tokens = context.encoder_hidden_states.shape[:3]
    texts = regions * tokens
    device = context.encoder_hidden_states.device
    bias = torch.zeros(batch, positions, positions, device=device, dtype=dtype)
    if context.masks is not None:
        acts = joint_masks(context, context.masks.float(), positions - texts).log()
        # What a text reads, and who reads it, a region at a time.
        spread = acts.repeat_interleave(tokens, 1)  # (batch, texts, positions)
        bias[:, :texts] = spread
        bias[:, :, :texts] = spread.transpose(1, 2)
    if context.valid is not None:
        padding = ~context.valid.flatten(1)  # (batch, texts)
        bias[:, :, :texts].masked_fill_(padding[:, None], -torch.inf)
        # A padding row reads itself at least: a softmax over nothing is no number.
        places = torch.arange(texts, device=device)
        bias[:, places, places] = 0.0
    return bias[:, None]


def _observed(
    context: RegionalContext, query: Tensor, key: Tensor, bias: Tensor | None
) -> Tensor | None:
    """Show the observer how pixels read each text; ``bias`` with what it adds to that.

    It sees, of every text alone and at every pixel, the attention to its tokens, with what it
    adds: the same map as of cross-attention, :class:`~.regional.RegionalAttnProcessor`.
    """
    assert context.observer is not None
    assert context.encoder_hidden_states is not None
    regions, tokens = context.encoder_hidden_states.shape[1:3]
    texts = regions * tokens
    pixels = query.shape[2] - texts
    added = context.observer.bias(pixels)  # (batch, regions, pixels, tokens)
    if added is not None:
        added = added.to(query)
    if context.observer.wants(pixels):
        probs = _text_probs(context, query[:, :, texts:], key[:, :, :texts], added)
        context.observer.observe(probs)
    if added is None:
        return bias
    if bias is None:
        bias = query.new_zeros(len(query), 1, query.shape[2], query.shape[2])
    raised = bias.clone()
    raised[:, 0, texts:, :texts] += added.transpose(1, 2).flatten(2)
    return raised


def _text_probs(
    context: RegionalContext, query: Tensor, key: Tensor, added: Tensor | None
) -> Tensor:
    """``(batch, regions, pixels, tokens)``, mean of the heads, fp32; 1 together in each text."""
    assert context.encoder_hidden_states is not None
    regions = context.encoder_hidden_states.shape[1]
    if query.dtype != torch.float64:
        query, key = query.float(), key.float()
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    logits = logits.unflatten(-1, (regions, -1))  # (batch, heads, pixels, regions, tokens)
    if added is not None:
        logits = logits + added.transpose(1, 2)[:, None]
    if context.valid is not None:
        logits = logits.masked_fill(~context.valid[:, None, None], -torch.inf)
    return logits.softmax(-1).mean(1).transpose(1, 2)


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """``(batch, positions, heads * d)`` -> ``(batch, positions, heads, d)``."""
    return x.unflatten(-1, (-1, head_dim))


Rotate = Callable[[Tensor, Tensor, Any], Tensor]
"""Queries or keys of the texts and of the image, ``(batch, positions, heads, d)`` each, and the
angles that the transformer gives -> both in one sequence, texts first, rotated."""


def no_rotation(texts: Tensor, image: Tensor, angles: Any) -> Tensor:
    """:data:`Rotate` of a base without rotary embeddings."""
    del angles
    return torch.cat([texts, image], 1)


class DoubleStreamProcessor:
    """A diffusers attention processor for blocks with a stream of text and one of the image.

    Args:
        context: what the regions are during a forward pass.
        rotate: how the base puts positions into queries and keys.
    """

    def __init__(self, context: RegionalContext, rotate: Rotate = no_rotation) -> None:
        self._context = context
        self._rotate = rotate

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        encoder_hidden_states_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``(batch, pixels, width)`` and ``(batch, regions * tokens, width)`` -> the same."""
        del attention_mask, encoder_hidden_states_mask  # the context says what is no word
        image = _project(attn, hidden_states, _IMAGE_LAYERS)
        text = _project(attn, encoder_hidden_states, _TEXT_LAYERS)
        out = joint_attend(
            self._rotate(text[0], image[0], image_rotary_emb),
            self._rotate(text[1], image[1], image_rotary_emb),
            torch.cat([text[2], image[2]], 1),
            self._context,
        )
        texts = encoder_hidden_states.shape[1]
        text_out = out[:, :texts]
        if attn.to_add_out is not None:  # nobody reads the text behind the last block of SD3
            text_out = attn.to_add_out(text_out)
        return attn.to_out[1](attn.to_out[0](out[:, texts:])), text_out


def _project(
    attn: Any, states: Tensor, layers: tuple[str, str, str, str, str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, normed, a head each."""
    head_dim = attn.inner_dim // attn.heads
    query, key, value = (split_heads(getattr(attn, name)(states), head_dim) for name in layers[:3])
    norm_query, norm_key = (getattr(attn, name, None) for name in layers[3:])
    return (
        query if norm_query is None else norm_query(query),
        key if norm_key is None else norm_key(key),
        value,
    )
