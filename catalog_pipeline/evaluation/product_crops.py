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
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2lab

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
"""Most :func:`halo` of a clean edge. Of 101 exact cut-outs 95 % lie below .5, with a contact shadow
below .7; with 3 px of a photographed room left 95 % above 4.2, the median at 8."""


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


def halo(picture: Pixels, inside: Inside, backdrop: Pixels, room: Pixels) -> float:
    """How much of its old room shows at the rim of a product, in CIELAB units, 0 and more.

    Our own measure. A clean edge has colours between ``F``, the product a little further in,
    and ``B``, the scene behind it. Of each rim pixel ``p``, with ``c`` the nearest of these
    and ``O`` the room of its photo::

        c(p) = B + t (F - B),  t in [0, 1] nearest to p
        e(p) = |W (p - c)|  where p is nearer to the way from c to O than half of that, else 0

    with ``W = diag(LIGHTNESS_WEIGHT, 1, 1)``. An outline or a strap of another colour than the
    room's is no halo. The same is asked of the next ring inwards; ``halo`` is the mean of
    ``e`` over the rim less that over this ring, at least 0.

    Cannot see a rim of a room that has the product's or the scene's colours; a product
    thinner than ``2 RIM_PX`` everywhere gives 0.

    Args:
        picture: ``(height, width, 3)``.
        inside: ``(height, width)``, what was put there as the product, a halo included.
        backdrop: the scene without products, ``(height, width, 3)``.
        room: what lay behind the product in its photo, at its place, ``(height, width, 3)``.

    Raises:
        ValueError: the shapes differ, or the mask is empty.
    """
    for image in (picture, backdrop, room):
        _check(image, inside)
    # One pixel of scene around it, so that only the picture's own border is no edge.
    rows, columns = (slice(max(0, s.start - 1), s.stop + 1) for s in product_box(inside))
    mask = inside[rows, columns]
    if mask.all():
        return 0.0
    weights = np.array((LIGHTNESS_WEIGHT, 1.0, 1.0))
    colors = [rgb2lab(image[rows, columns]) * weights for image in (picture, backdrop, room)]
    depth = distance_transform_edt(mask)
    rim, ring = mask & (depth <= RIM_PX), (depth > RIM_PX) & (depth <= 2 * RIM_PX)
    core = (depth > RIM_PX) & (depth <= 3 * RIM_PX)
    deeper = (depth > 2 * RIM_PX) & (depth <= 4 * RIM_PX)
    own = _foreign(colors, ring, deeper)
    return max(0.0, _foreign(colors, rim, core) - own)


def _foreign(colors: Sequence[Colors], asked: Inside, core: Inside) -> float:
    """Mean ``e`` of :func:`halo` over ``asked``, with ``F`` the nearby mean of ``core``.

    ``colors`` are those of picture, scene and room, weighted.
    """
    near = gaussian_filter(core.astype(np.float64), RIM_PX)
    asked = asked & (near > 1e-4)
    if not asked.any():
        return 0.0
    total = gaussian_filter(colors[0] * core[..., None], (RIM_PX, RIM_PX, 0))
    seen, behind, room = (image[asked] for image in colors)  # (pixels, 3)
    clean = _nearest(seen, behind, total[asked] / near[asked, None])
    way = _nearest(seen, clean, room)
    foreign = np.linalg.norm(seen - clean, axis=1)
    from_room = np.linalg.norm(seen - way, axis=1) < 0.5 * foreign
    return float((foreign * from_room).mean())


def _nearest(points: Colors, start: Colors, end: Colors) -> Colors:
    """The points between ``start`` and ``end`` that are nearest to ``points``, row by row."""
    way = end - start
    share = ((points - start) * way).sum(1) / np.maximum((way * way).sum(1), 1e-9)
    nearest: Colors = start + np.clip(share, 0, 1)[:, None] * way
    return nearest


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
