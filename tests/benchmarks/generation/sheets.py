"""Contact sheets: photos at the left, then the methods on the same seeds, with their verdicts.

The bar under a picture has a piece for each named product, left to right: green found, orange
swapped or duplicated, red missing. The judge drew it; the eye decides whether it is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_jpeg
from catalog_pipeline.records import Pixels
from tests.benchmarks.generation.results import Row
from tests.benchmarks.harness.report import first_photo

SHEET_BYTES = 280_000
SHOWN = ("plain", "attend_and_excite", "regional", "ours")
_CELL_PX, _BAR_PX = 136, 9
_COLORS = {"found": (32, 150, 70), "missing": (214, 40, 40)}
_OTHERWISE = (242, 150, 20)
_TEXT = {"fill": (30, 34, 42), "spacing": 2}


def draw_sheet(rows: Mapping[str, Row], products: Path | None, scenes: int) -> bytes:
    """A JPEG: a line of at most ``scenes`` scenes each, under a line of titles.

    Args:
        rows: the methods' rows of one suite.
        products: folder of the products' photos; ``None`` writes the things' names instead.
        scenes: how many of the set are shown, from its beginning.
    """
    shown = [rows[name] for name in (*SHOWN, "gate") if name in rows]
    return as_sheet(sheet_lines(shown, products, range(scenes)))


def as_sheet(lines: Sequence[Sequence[Pixels]], most_bytes: int = SHEET_BYTES) -> bytes:
    """The lines of :func:`sheet_lines` below one another, a JPEG."""
    sheet = contact_sheet(lines, cell_px=_CELL_PX + _BAR_PX, square=True)
    return encode_jpeg(sheet, most_bytes, quality=85)


def sheet_lines(
    shown: Sequence[Row], products: Path | None, scenes: Sequence[int], columns: int = 0
) -> list[list[Pixels]]:
    """A line of titles, then one of each of ``scenes``; products take ``columns`` or as needed."""
    first = shown[0]
    columns = max(columns, len(first.scenes[0].things))
    labels = ["product" if products else "named"] * columns + [row.title for row in shown]
    lines = [[_written(label, _CELL_PX // 4) for label in labels]]
    for index in scenes[: len(first.scenes)]:
        named = [_photo(products, thing) for thing in first.scenes[index].things]
        named += [_written("", _CELL_PX)] * (columns - len(named))
        lines.append([*named, *(_marked(row, index) for row in shown)])
    return lines


def _marked(row: Row, index: int) -> Pixels:
    """The picture with its verdict below it."""
    picture = row.pictures[index]
    height = round(_CELL_PX * picture.shape[0] / picture.shape[1])
    image = Image.fromarray(picture).resize((_CELL_PX, height))
    cell = np.full((_CELL_PX + _BAR_PX, _CELL_PX, 3), 255, np.uint8)
    cell[_CELL_PX - height : _CELL_PX] = np.asarray(image)  # on the bar, wide ones lower
    verdicts = [row.verdicts[index]["found"][thing] for thing in row.scenes[index].things]
    edges = np.linspace(0, _CELL_PX, len(verdicts) + 1).round().astype(int)
    for verdict, left, right in zip(verdicts, edges[:-1], edges[1:], strict=True):
        cell[_CELL_PX + 2 :, left + 1 : right - 1] = _COLORS.get(verdict, _OTHERWISE)
    return cell


def _photo(products: Path | None, thing: str) -> Pixels:
    """The first photo of a product, or its name."""
    return _written(thing, _CELL_PX) if products is None else first_photo(products / thing)


def _written(text: str, height: int) -> Pixels:
    """A cell that holds words."""
    image = Image.new("RGB", (_CELL_PX, height), "white")
    lines: Sequence[str] = text.split(" ") if height == _CELL_PX else [text]
    font = ImageFont.load_default(size=12)
    ImageDraw.Draw(image).multiline_text((4, 6), "\n".join(lines), font=font, **_TEXT)
    return np.asarray(image)
