"""One small picture of a night, to be kept with its report."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.records import Pixels

SHEET_IMAGES = 24
SHEET_MAX_BYTES = 100_000

_COLUMNS = 6
_CELLS_PX = (128, 112, 96, 80, 64, 48, 32, 16)
_COLOURS = 256


def draw_night_sheet(pictures: Sequence[Pixels]) -> bytes:
    """The first 24 pictures, as a PNG of under 100,000 bytes; ``b""`` without pictures.

    Pictures of one size stand together, six in a row, or fewer where they are wider.
    A palette keeps the file small; where it is not enough the cells shrink.
    """
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet

    if not pictures:
        return b""
    shown = list(pictures[:SHEET_IMAGES])
    rows = _rows(shown)
    for cell_px in _CELLS_PX:
        sheet = Image.fromarray(contact_sheet(rows, cell_px=cell_px))
        small = sheet.quantize(_COLOURS, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        small.save(buffer, format="PNG", optimize=True)
        if buffer.tell() < SHEET_MAX_BYTES:
            return buffer.getvalue()
    raise GenerationError(
        f"a contact sheet of {len(shown)} pictures takes {buffer.tell()} bytes at "
        f"{_CELLS_PX[-1]} px a cell, expected under {SHEET_MAX_BYTES}"
    )


def _rows(pictures: Sequence[Pixels]) -> list[list[Pixels]]:
    sizes: dict[tuple[int, ...], list[Pixels]] = {}
    for pixels in pictures:
        sizes.setdefault(pixels.shape, []).append(pixels)
    rows = []
    for (height, width, _), same in sizes.items():
        columns = max(1, int(_COLUMNS * min(1.0, height / width)))
        rows += [same[start : start + columns] for start in range(0, len(same), columns)]
    return rows
