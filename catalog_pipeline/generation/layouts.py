"""Where the products of a picture stand: boxes by the layout's name, the first product's first."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.records import Region
from catalog_pipeline.settings import LayoutSettings


def _columns(*edges: float) -> tuple[Region, ...]:
    return tuple(Region(left, 0.0, right, 1.0) for left, right in pairwise(edges))


LAYOUTS: Mapping[str, tuple[Region, ...]] = {
    "single": _columns(0.0, 1.0),
    "left_right": _columns(0.0, 0.5, 1.0),
    "wide_left": _columns(0.0, 0.6, 1.0),
    "wide_right": _columns(0.0, 0.4, 1.0),
    "three_columns": _columns(0.0, 1 / 3, 2 / 3, 1.0),
    "wide_centre": _columns(0.0, 0.28, 0.72, 1.0),
}
"""Boxes in fractions of the picture. What lies in no box goes to the nearest one."""

_COLUMNS = {1: "single", 2: "left_right", 3: "three_columns"}


def split_layout(count: int) -> tuple[Region, ...]:
    """Equal columns, left to right: the full image, its halves or its thirds.

    Raises:
        GenerationError: ``count`` is not 1, 2 or 3.
    """
    if count not in _COLUMNS:
        raise GenerationError(
            f"no layout for {count} products; a picture shows one, two or three, "
            "so split the scene into smaller ones"
        )
    return LAYOUTS[_COLUMNS[count]]


def find_regions(name: str, settings: LayoutSettings) -> tuple[Region, ...]:
    """The boxes of a layout, the program's own or one of ``layouts.boxes``.

    Raises:
        GenerationError: there is no layout of this name.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    if name not in settings.boxes:
        raise GenerationError(
            f"there is no layout {name!r}; expected one of {', '.join((*LAYOUTS, *settings.boxes))}"
        )
    return tuple(Region(*box) for box in settings.boxes[name])
