"""The sizes that training views come in: a square, and a few oblong ones of its area.

Aspect-ratio bucketing as NovelAI and Stable Diffusion XL do it (section 2.3 of
arXiv:2307.01952: sizes near 1024 x 1024 pixels in area, in steps of 64). **Differs from the
paper:** up to 2:1 instead of 4:1, in steps of an eighth of the side. A product has a few
photos, not a million: with seven sizes they still meet in the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]
"""``(width, height)`` in pixels."""

_MAX_ASPECT = 2.0
_STEPS_A_SIDE = 8
_AREA_TOLERANCE = 0.2


def aspect_buckets(side_px: int, step_px: int) -> tuple[Size, ...]:
    """The square of ``side_px`` first, then oblong sizes of nearly its area, least oblong first.

    Sides of the oblong ones are multiples of ``step_px``, and of about an eighth of
    ``side_px`` where that is more; aspect ratios lie within 1:2 and 2:1, areas within a fifth
    of the square's. A side of 128 gives 144 x 112, 160 x 96 and 176 x 96, each upright too.

    Args:
        side_px: what the base was trained at.
        step_px: :attr:`.BaseModel.size_step_px`.
    """
    step = step_px * max(1, math.ceil(side_px / _STEPS_A_SIDE / step_px))
    buckets: list[Size] = [(side_px, side_px)]
    for longer in range(step * (side_px // step + 1), int(side_px * _MAX_ASPECT) + 1, step):
        shorter = step * round(side_px**2 / longer / step)
        area_share = longer * shorter / side_px**2
        oblong = shorter < longer <= _MAX_ASPECT * shorter
        if oblong and abs(area_share - 1) <= _AREA_TOLERANCE:
            buckets += [(longer, shorter), (shorter, longer)]
    return tuple(buckets)


def nearest_bucket(width: int, height: int, buckets: Sequence[Size]) -> Size:
    """The bucket whose aspect ratio is nearest to ``width`` / ``height``, by their quotient.

    Of two that are equally near, the earlier one.
    """
    aspect = math.log(width / height)
    return min(buckets, key=lambda bucket: abs(math.log(bucket[0] / bucket[1]) - aspect))
