"""Orthogonal attention of L2DM, section 4.4 of arXiv:2309.04430.

Concepts attend to different places, and the words of one concept to the same place. The
paper's formulas are not public; both losses are **our reconstruction**.

``maps`` is ``(batch, concepts, groups, h, w)``, attention in [0, 1], its groups as
:data:`~catalog_pipeline.generation.attention_maps.ATTRIBUTE` and ``NOUN`` say. Losses
are ``(batch,)``, dimensionless.
"""

from __future__ import annotations

import torch
from torch import Tensor

from catalog_pipeline.generation.attention_maps import ATTRIBUTE, NOUN

_TINY = 1e-8


def orthogonal_loss(maps: Tensor) -> Tensor:
    """How alike the attention of different concepts is.

    With ``a_i = A_i - mean_p A_i`` the centred map of concept ``i``, flattened::

        L_orth = mean_{i<j} max(0, <a_i, a_j> / (|a_i| |a_j|))^2

    Centred, because a map is nowhere below 0: uncentred maps that do not overlap more
    than chance would still have a positive cosine. Maps that avoid each other (below 0)
    are as wanted and cost nothing.

    Returns:
        ``(batch,)`` in [0, 1]; 0 for one concept.
    """
    flat = maps.mean(2).flatten(2)  # (batch, concepts, pixels)
    centred = flat - flat.mean(2, keepdim=True)
    unit = centred / centred.norm(dim=2, keepdim=True).clamp(min=_TINY)
    cosine = unit @ unit.transpose(1, 2)  # (batch, concepts, concepts)
    concepts = cosine.shape[1]
    first, second = torch.triu_indices(concepts, concepts, offset=1)
    if not len(first):
        return maps.new_zeros(len(maps))
    return cosine[:, first, second].clamp(min=0).square().mean(1)


def binding_loss(maps: Tensor) -> Tensor:
    """How far the words of a concept attend to other places than its noun.

    With ``p_i, q_i`` the attribute and the noun map of concept ``i`` as distributions
    over pixels and ``JS`` the Jensen-Shannon divergence in units of ln 2::

        L_bind = mean_i JS(p_i || q_i)

    Ties "red" to "backpack" in "a red backpack and a blue mug", and placeholder tokens
    to their class noun (compare SynGen, arXiv:2306.08877, which uses the symmetric KL).

    Returns:
        ``(batch,)`` in [0, 1]; 0 when both groups attend alike.
    """
    flat = maps.flatten(3)  # (batch, concepts, groups, pixels)
    shares = flat / flat.sum(3, keepdim=True).clamp(min=_TINY)
    attribute, noun = shares[:, :, ATTRIBUTE], shares[:, :, NOUN]
    middle = ((attribute + noun) / 2).clamp(min=_TINY)
    divergence = (_relative_entropy(attribute, middle) + _relative_entropy(noun, middle)) / 2
    return (divergence / torch.log(torch.tensor(2.0))).mean(1)


def _relative_entropy(shares: Tensor, other: Tensor) -> Tensor:
    """``sum_p s log(s / o)`` over the last axis."""
    return torch.xlogy(shares, shares.clamp(min=_TINY) / other).sum(-1)
