"""Measures of one product in a finished picture against the photo it was taken from.

All take 8-bit sRGB pictures ``(height, width, 3)`` and masks ``(height, width)`` of the
product's visible part. Where a product's own photo is the reference, it is the cut-out as it
was placed: the same size and place as in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2lab

from catalog_pipeline.evaluation.reflection.regions import (
    GRID_PX,
    SALIENT,
    connected_pieces,
)
from catalog_pipeline.records import Pixels

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder

Inside = npt.NDArray[np.bool_]
Colors = npt.NDArray[np.float64]

BLUR_PX = 1.5
"""Standard deviation of the blur before colours are compared: a shift of a pixel is no fault."""
MARGIN = 0.06
"""White around a product alone, each side, as a share of its longer side."""
RIM_PX = 4
"""How far from its edge into a product a rim of the old room is looked for."""
LIGHTNESS_WEIGHT = 0.5
"""Of L* against a* and b*: round things darken towards their edge, a shadow falls on it."""
MAX_HALO = 3.0
"""Most :func:`halo` of a clean edge. Of exact cut-outs 95 % lie below 1.7, with a contact shadow
below 2.2; with 3 px of a photographed room left 95 % above 3.4, the median at 10."""

MIN_EXTRA_SHARE = 0.2
"""Of the smallest product; a smaller thing beside the products is a crumb."""
SHADOW_DARKENING, SHADOW_CHROMA = 2.0, 8.0
"""A shadow darkens the scene by this L* or more, and moves its a* and b* by less than this."""


def color_difference(picture: Pixels, reference: Pixels, inside: Inside) -> float:
    """Median CIEDE2000 of the masked pixels; 1 is just visible side by side, 0 the same.

    Both are blurred within the mask first, so neither the scene behind the product nor a
    shift of a pixel counts. Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula",
    Color Research and Application 30 (2005).

    Args:
        picture: ``(height, width, 3)``, 0..255.
        reference: the same of the photo; what lies outside the mask does not count.
        inside: ``(height, width)``.

    Raises:
        ValueError: the shapes differ, or the mask is empty.
    """
    _check(picture, inside)
    _check(reference, inside)
    rows, columns = product_box(inside)
    mask = inside[rows, columns]
    one, two = (
        rgb2lab(_blurred(image[rows, columns] / 255.0, mask)[mask])
        for image in (picture, reference)
    )
    return float(np.median(deltaE_ciede2000(one, two)))


def crop_likeness(
    encoder: FeatureEncoder,
    crop: Pixels,
    mask: Inside,
    reference_crop: Pixels,
    reference_mask: Inside,
) -> float:
    """Cosine of the features of two products, each alone on white at the same scale, -1..1.

    Raises:
        ValueError: a mask is empty or of another size than its crop.
    """
    return crop_likenesses(encoder, [(crop, mask)], [(reference_crop, reference_mask)])[0]


def crop_likenesses(
    encoder: FeatureEncoder,
    crops: Sequence[tuple[Pixels, Inside]],
    references: Sequence[tuple[Pixels, Inside]],
) -> list[float]:
    """:func:`crop_likeness` of each crop and the reference in its place, encoded at once.

    Raises:
        ValueError: not one reference a crop, or as :func:`alone_on_white`.
    """
    if len(crops) != len(references):
        raise ValueError(
            f"got {len(crops)} crops and {len(references)} references; expected one a crop"
        )
    features = encoder.encode([alone_on_white(*view) for view in (*crops, *references)])
    return [float(one @ two) for one, two in zip(*np.split(features, 2), strict=True)]


def halo(picture: Pixels, inside: Inside, backdrop: Pixels) -> float:
    """How foreign the rim of a product is to it and to the scene, in CIELAB units, 0 and more.

    Our own measure. Of each rim pixel ``p``, the distance to the colours that a clean edge may
    have: between ``F``, the product a little further in, and ``B``, the scene behind it::

        e(p) = min over 0 <= t <= 1 of |W (p - (1 - t) B - t F)|,  W = diag(LIGHTNESS_WEIGHT, 1, 1)

    The same is asked of the next ring inwards, since prints and folds change colours too;
    ``halo`` is the mean of ``e`` over the rim less that over this ring, at least 0.

    Cannot tell an outline that goes all around the product from a halo, nor a room in the
    product's own colours; a product thinner than ``2 RIM_PX`` everywhere gives 0.

    Args:
        picture: ``(height, width, 3)``.
        inside: ``(height, width)``, what was put there as the product, a halo included.
        backdrop: the scene without products, ``(height, width, 3)``.

    Raises:
        ValueError: the shapes differ, or the mask is empty.
    """
    _check(picture, inside)
    _check(backdrop, inside)
    # One pixel of scene around it, so that only the picture's own border is no edge.
    rows, columns = (slice(max(0, s.start - 1), s.stop + 1) for s in product_box(inside))
    mask = inside[rows, columns]
    if mask.all():
        return 0.0
    product, scene = (rgb2lab(image[rows, columns]) for image in (picture, backdrop))
    depth = distance_transform_edt(mask)
    rim, ring = mask & (depth <= RIM_PX), (depth > RIM_PX) & (depth <= 2 * RIM_PX)
    core = (depth > RIM_PX) & (depth <= 3 * RIM_PX)
    deeper = (depth > 2 * RIM_PX) & (depth <= 4 * RIM_PX)
    own = _foreign(product, scene, ring, deeper)
    return max(0.0, _foreign(product, scene, rim, core) - own)


def _foreign(product: Colors, scene: Colors, asked: Inside, core: Inside) -> float:
    """Mean ``e`` of :func:`halo` over ``asked``, with ``F`` the nearby mean of ``core``."""
    near = gaussian_filter(core.astype(np.float64), RIM_PX)
    asked = asked & (near > 1e-4)
    if not asked.any():
        return 0.0
    total = gaussian_filter(product * core[..., None], (RIM_PX, RIM_PX, 0))
    weights = np.array((LIGHTNESS_WEIGHT, 1.0, 1.0))
    behind = scene[asked] * weights
    way = total[asked] / near[asked, None] * weights - behind  # (pixels, 3), from B to F
    seen = product[asked] * weights - behind
    share = np.clip((seen * way).sum(1) / np.maximum((way * way).sum(1), 1e-9), 0, 1)
    return float(np.linalg.norm(seen - share[:, None] * way, axis=1).mean())


def extra_pieces(
    picture: Pixels, backdrop: Pixels, saliency: Pixels, placed: Sequence[Inside]
) -> int:
    """Salient things that stand beside the placed products: how many are too many.

    A shadow is none, nor is what is small beside the smallest product (``MIN_EXTRA_SHARE``).
    What already stands in the backdrop is one, as much as what a redraw added. A copy that
    stands behind a product or touches it belongs to its piece and is not seen.

    Args:
        picture: ``(height, width, 3)``.
        backdrop: the scene without products, of the same size.
        saliency: opacity of what stands out of ``picture``, ``(height, width)``, 0..255.
        placed: the visible part of every product, ``(height, width)`` each.

    Raises:
        ValueError: no product, or the shapes differ.
    """
    if not placed:
        raise ValueError("got no placed products; expected the visible part of at least one")
    for inside in placed:
        _check(picture, inside)
    _check(backdrop, placed[0])
    own = [_on_grid(inside.astype(np.uint8) * 255) >= SALIENT for inside in placed]
    least = MIN_EXTRA_SHARE * max(1, min(int(inside.sum()) for inside in own))
    # The saliency network rounds edges: its piece of a product reaches a cell or two beyond.
    beside = ~binary_dilation(np.any(own, axis=0), iterations=2)
    colors = [rgb2lab(_on_grid(image)) for image in (picture, backdrop)]
    change = colors[0] - colors[1]  # (GRID_PX, GRID_PX, 3)
    shadow = (change[..., 0] <= -SHADOW_DARKENING) & (
        np.hypot(change[..., 1], change[..., 2]) < SHADOW_CHROMA
    )
    pieces = connected_pieces((_on_grid(saliency) >= SALIENT) & beside & ~shadow)
    return sum(int(piece.sum()) >= least for piece in pieces)


def _on_grid(pixels: Pixels) -> Pixels:
    small = Image.fromarray(pixels).resize((GRID_PX, GRID_PX), Image.Resampling.BOX)
    return np.asarray(small)


def alone_on_white(pixels: Pixels, inside: Inside) -> Pixels:
    """The masked product in the middle of a white square that fits it, ``(side, side, 3)``.

    Raises:
        ValueError: the mask is empty or of another size than the pixels.
    """
    _check(pixels, inside)
    rows, columns = product_box(inside)
    mask = inside[rows, columns]
    height, width = mask.shape
    side = max(height, width) + 2 * round(MARGIN * max(height, width))
    square = np.full((side, side, 3), 255, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    place = square[top : top + height, left : left + width]
    np.copyto(place, pixels[rows, columns], where=mask[..., None])
    return square


def _blurred(colors: Colors, inside: Inside) -> Colors:
    """Gaussian mean over the masked pixels alone, ``(height, width, 3)``."""
    weight = inside.astype(np.float64)
    total = gaussian_filter(colors * weight[..., None], (BLUR_PX, BLUR_PX, 0), mode="constant")
    share = gaussian_filter(weight, BLUR_PX, mode="constant")
    blurred: Colors = total / np.maximum(share, 1e-6)[..., None]
    return blurred


def product_box(inside: Inside) -> tuple[slice, slice]:
    """Rows and columns of a mask that is not empty."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _check(pixels: Pixels, inside: Inside) -> None:
    if pixels.shape != (*inside.shape, 3):
        raise ValueError(
            f"got pixels of shape {pixels.shape} and a mask of shape {inside.shape}; expected "
            "(height, width, 3) and (height, width) of one size"
        )
    if not inside.any():
        raise ValueError("got an empty mask; expected the visible pixels of a product")
