"""Which salient pieces stand in which planned region of a picture, and crops of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import label

from catalog_pipeline.evaluation.product_mask import MaskPixels
from catalog_pipeline.records import Pixels, Region

Inside = npt.NDArray[np.bool_]

GRID_PX = 64
"""Pieces are looked for on a copy of the mask of this side: finer detail is not needed."""
SALIENT = 128
"""Opacity from which a pixel belongs to a product."""
MIN_PIECE_AREA = 0.008
"""Of the picture; smaller pieces are crumbs of the mask, not products."""
MIN_SPLIT_SHARE = 0.4
"""Over the number of regions: a piece with this share of its area in each of two or more may
be products that touch, or have grown into one."""
MAX_SEAM = 0.8
"""Two products that touch do so along less of the longer one than this; else they are one
thing. Of 12 generated pictures in which two products had grown together 11 lie above."""
MIN_TWO_BREADTH = 0.6
"""Two products that touch reach over more than this share of both regions; what is narrower and
stands across the border is one thing. (Known scenes: two .81 and more, one .47 and less.)"""
MARGIN = 0.12
"""Free space around the product in a close crop, as a share of its longer side."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the latter two exclusive."""


@dataclass(frozen=True, eq=False)
class RegionProducts:
    """What stands in one planned region.

    Attributes:
        inside: pixels of its pieces, ``(height, width)`` of the picture.
        pieces: boxes of the pieces, largest piece first; stacked parts count as one.
        box: around all pieces, or the region itself when there is none.
        taken: a thing stands across this region and another, and is neither's product.
    """

    inside: Inside
    pieces: tuple[Box, ...]
    box: Box
    taken: bool = False

    @property
    def empty(self) -> bool:
        """No salient piece stands here."""
        return not self.pieces


def products_by_region(mask: MaskPixels, regions: Sequence[Region]) -> list[RegionProducts]:
    """Give every salient piece of ``mask`` to the region that holds most of it.

    A piece that reaches far into a second region is two products that touch, and is cut
    at the border; but where it is about as long at the border as anywhere, or narrow, it
    is one thing and stays whole: the product of the region that holds most of it if the
    other region has a piece of its own, else nobody's. Pieces of one region that stand
    above each other (a lamp's shade and foot) are one product.

    Args:
        mask: saliency of the whole picture, ``(height, width)``, 0..255.
        regions: in the order of the named products; they may overlap.
    """
    height, width = mask.shape
    small = Image.fromarray(mask).resize((GRID_PX, GRID_PX), Image.Resampling.BOX)
    salient = np.asarray(small) >= SALIENT
    owners = nearest_region(regions)
    given: list[list[Inside]] = [[] for _ in regions]
    astride: list[list[Inside]] = []
    least = MIN_SPLIT_SHARE / len(regions)
    for piece in connected_pieces(salient):
        parts = [piece & (owners == index) for index in range(len(regions))]
        held = np.array([part.sum() for part in parts])
        large = int((held >= least * piece.sum()).sum())
        # Three stand so close that their shadows join the pieces; there a seam says nothing.
        if len(regions) == 2 and large == 2 and _is_one(parts, regions):
            astride.append(parts)
        elif large > 1:
            for index, part in enumerate(parts):
                given[index].append(part)
        else:
            given[int(held.argmax())].append(piece)
    taken = _settle(astride, given)
    return [
        _described(region, parts, index in taken, width, height)
        for index, (region, parts) in enumerate(zip(regions, given, strict=True))
    ]


def _is_one(parts: Sequence[Inside], regions: Sequence[Region]) -> bool:
    """Whether a piece that stands across two regions is one thing, not two that touch."""
    return _seam(*parts) >= MAX_SEAM or _breadth(parts[0] | parts[1], regions) < MIN_TWO_BREADTH


def _settle(astride: Sequence[Sequence[Inside]], given: Sequence[list[Inside]]) -> set[int]:
    """Give things that stand across both regions to one of them, or to none; which are taken.

    Where the other product stands elsewhere, the thing is merely off its place. Else both
    may have grown into it, and neither can be said to be there.
    """
    least = MIN_PIECE_AREA * GRID_PX**2
    held = [any(part.sum() >= least for part in parts) for parts in given]
    taken: set[int] = set()
    for parts in astride:
        most = int(np.argmax([part.sum() for part in parts]))
        if held[1 - most]:
            given[most].append(parts[0] | parts[1])
        else:
            taken.update((0, 1))
    return taken


def _breadth(piece: Inside, regions: Sequence[Region]) -> float:
    """Extent of ``piece`` as a share of both regions', along the axis on which these differ."""
    left, top, right, bottom = _box_of(piece)
    one, two = regions
    aside = abs(one.left + one.right - two.left - two.right)
    above = abs(one.top + one.bottom - two.top - two.bottom)
    if aside >= above:
        return (right - left) / GRID_PX / (max(one.right, two.right) - min(one.left, two.left))
    return (bottom - top) / GRID_PX / (max(one.bottom, two.bottom) - min(one.top, two.top))


def _described(
    region: Region, parts: Sequence[Inside], taken: bool, width: int, height: int
) -> RegionProducts:
    least = MIN_PIECE_AREA * GRID_PX**2
    own = sorted((part for part in parts if part.sum() >= least), key=lambda p: -int(p.sum()))
    if not own:
        nothing = np.zeros((height, width), dtype=bool)
        return RegionProducts(nothing, (), region_box(region, width, height), taken)
    inside = np.any(own, axis=0)
    large = Image.fromarray(inside.astype(np.uint8) * 255).resize((width, height))
    return RegionProducts(
        inside=np.asarray(large) >= SALIENT,
        pieces=tuple(_scaled(_box_of(piece), width, height) for piece in _stacked(own)),
        box=_scaled(_box_of(inside), width, height),
        taken=taken,
    )


def _seam(first: Inside, second: Inside) -> float:
    """How much of the longer of two adjoining parts lies along their common border, 0..1."""
    beside = (first[:, :-1] & second[:, 1:]) | (second[:, :-1] & first[:, 1:])
    above = (first[:-1] & second[1:]) | (second[:-1] & first[1:])
    rows = max(int(part.any(1).sum()) for part in (first, second))
    columns = max(int(part.any(0).sum()) for part in (first, second))
    return max(int(beside.any(1).sum()) / rows, int(above.any(0).sum()) / columns)


def connected_pieces(salient: Inside) -> list[Inside]:
    """The 4-connected pieces of ``salient``, ``(height, width)`` each, in reading order."""
    pieces, count = label(salient)
    return [pieces == number for number in range(1, count + 1)]


def region_box(region: Region, width: int, height: int) -> Box:
    """``region`` in pixels, at least one wide and high."""
    left, top = round(region.left * width), round(region.top * height)
    right, bottom = round(region.right * width), round(region.bottom * height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def crop(picture: Pixels, box: Box) -> Pixels:
    """The pixels of ``box``."""
    left, top, right, bottom = box
    return picture[top:bottom, left:right]


def close_box(products: RegionProducts, region: Region, width: int, height: int) -> Box:
    """A square around the region's products, kept inside the picture and near the region.

    Square as far as the region allows, so that the neighbour stays outside.
    """
    left, top, right, bottom = products.box
    side = max(right - left, bottom - top) * (1 + 2 * MARGIN)
    edges = region_box(region, width, height)
    bounds = (min(left, edges[0]), 0, max(right, edges[2]), height)
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    return (
        max(bounds[0], int(center_x - side / 2)),
        max(bounds[1], int(center_y - side / 2)),
        min(bounds[2], int(np.ceil(center_x + side / 2))),
        min(bounds[3], int(np.ceil(center_y + side / 2))),
    )


def nearest_region(regions: Sequence[Region]) -> npt.NDArray[np.intp]:
    """Index of the region of each cell, ``(GRID_PX, GRID_PX)``: the nearest box.

    Where boxes overlap, the one whose centre is nearest in units of its own size.
    """
    centre = (np.arange(GRID_PX) + 0.5) / GRID_PX
    distances = []
    for box in regions:
        aside = np.clip(box.left - centre, 0, None) + np.clip(centre - box.right, 0, None)
        above = np.clip(box.top - centre, 0, None) + np.clip(centre - box.bottom, 0, None)
        across = (centre - (box.left + box.right) / 2) / (box.right - box.left)
        down = (centre - (box.top + box.bottom) / 2) / (box.bottom - box.top)
        outside = above[:, None] ** 2 + aside[None] ** 2
        # At most 1/2 within a box: it decides only between boxes that both hold the cell.
        distances.append(np.where(outside > 0, 1 + outside, down[:, None] ** 2 + across[None] ** 2))
    nearest: npt.NDArray[np.intp] = np.argmin(np.stack(distances), axis=0)
    return nearest


def _stacked(pieces: Sequence[Inside]) -> list[Inside]:
    """Pieces, largest first, joined where the smaller lies mostly above or below the larger."""
    merged: list[Inside] = []
    for piece in pieces:
        left, _, right, _ = _box_of(piece)
        for index, other in enumerate(merged):
            other_left, _, other_right, _ = _box_of(other)
            shared = min(right, other_right) - max(left, other_left)
            if shared >= 0.5 * (right - left):
                merged[index] = other | piece
                break
        else:
            merged.append(piece)
    return merged


def _box_of(inside: Inside) -> Box:
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _scaled(box: Box, width: int, height: int) -> Box:
    left, top, right, bottom = box
    return (
        left * width // GRID_PX,
        top * height // GRID_PX,
        -(-right * width // GRID_PX),
        -(-bottom * height // GRID_PX),
    )
