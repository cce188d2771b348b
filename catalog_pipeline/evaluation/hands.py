"""Is a masked thing a product, or the hand that holds it up to the camera?

Salience networks like hands. A cut-out that is mostly an arm teaches a product that is an
arm, so such masks are not used. An arm is skin-coloured (the Cb-Cr box of Chai and Ngan,
"Face segmentation using skin-color map in videophone applications", 1999) and comes in over
the edge of the photo; a brown bear that stands free in its photo is not one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from catalog_pipeline.records import Pixels

MAX_ARM_SHARE = 0.4
"""Of a masked area; above it the mask is a hand's."""

_SIDE_PX = 96
_CB, _CR = (77, 127), (133, 173)
Mask = npt.NDArray[np.bool_]


def arm_share(pixels: Pixels, mask: npt.NDArray[np.uint8]) -> float:
    """Share of the masked area that is skin joined to the edge of the photo, in [0, 1].

    Args:
        pixels: ``(height, width, 3)``.
        mask: ``(height, width)``, 0..255.
    """
    photo, opacity = Image.fromarray(pixels), Image.fromarray(mask)
    for image in (photo, opacity):
        image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX)
    inside: Mask = np.asarray(opacity) >= 128
    if not inside.any():
        return 0.0
    colors = np.asarray(photo.convert("YCbCr"))
    skin = inside.copy()
    for channel, (low, high) in ((colors[..., 1], _CB), (colors[..., 2], _CR)):
        skin &= (channel >= low) & (channel <= high)
    edge = np.ones_like(skin)
    edge[2:-2, 2:-2] = False
    return float(_reached(skin & edge, skin).sum() / inside.sum())


def _reached(start: Mask, within: Mask) -> Mask:
    """``start`` grown step by step, diagonals too, as far as ``within`` goes."""
    grown = start
    while True:
        image = Image.fromarray(grown.astype(np.uint8) * 255)
        following = (np.asarray(image.filter(ImageFilter.MaxFilter(3))) > 0) & within
        if (following == grown).all():
            return grown
        grown = following
