"""The concept attention artist of L2DM, section 4.3 of arXiv:2309.04430.

Two losses on the attention maps of a half-finished picture. Their exact formulas are
not public; both are **our reconstruction** from the paper's text.

Shapes: ``maps`` ``(batch, concepts, h, w)``, attention in [0, 1]; ``masks``
``(batch, concepts, h, w)``, the region of each concept, summing to at most 1 at each
pixel. Losses are ``(batch,)``, dimensionless.
"""

from __future__ import annotations

from torch import Tensor

from catalog_pipeline.generation.attention_maps import smooth

_TINY = 1e-8


def unmix_loss(maps: Tensor, masks: Tensor) -> Tensor:
    """How much of each concept's attention lies outside its own region.

    With ``A_i`` the map of concept ``i`` and ``m_i`` its region::

        L_unmix = mean_i (1 - sum_p m_i(p) A_i(p) / sum_p A_i(p))^2

    **Our reconstruction** of the concept-level unmix loss. Differs from the paper: any
    regions in place of half-planes. Squared, after the layout loss of
    arXiv:2304.03373, so that the concept that strays most is moved most.

    Returns:
        ``(batch,)`` in [0, 1]; 0 when every concept keeps to its region.
    """
    inside = (maps * masks).sum((-2, -1))
    total = maps.sum((-2, -1)).clamp(min=_TINY)
    return (1 - inside / total).square().mean(1)


def strengths(maps: Tensor, masks: Tensor) -> Tensor:
    """How strongly each concept is attended inside its region, ``(batch, concepts)`` in [0, 1].

    The maximum over the region of the smoothed map, as in Attend-and-Excite.
    """
    return (smooth(maps) * masks).amax((-2, -1))


def dynamic_attend_loss(maps: Tensor, masks: Tensor, floor: float) -> Tensor:
    """No concept may fall silent beside the others.

    With ``s_i`` of :func:`strengths`, ``s_max`` the greatest of them, held constant,
    and ``floor`` the strength that any present concept has::

        L_attend = max_i  max(0, 1 - s_i / max(s_max, floor))

    **Our reconstruction** of the dynamic-attend loss: the target of the weakest is the
    strongest of this very picture, where Attend-and-Excite (``max_i 1 - s_i``) asks
    every picture for 1. ``floor`` is what keeps two concepts that are both missing
    from being even.

    Returns:
        ``(batch,)`` in [0, 1].
    """
    strength = strengths(maps, masks)
    target = strength.detach().amax(1, keepdim=True).clamp(min=floor)
    return (1 - strength / target).clamp(min=0).amax(1)
