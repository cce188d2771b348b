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


def draw_night_sheet(pictures: Sequence[Pixels], captions: Sequence[str] = ()) -> bytes:
    """The first 24 pictures, as a PNG of under 100,000 bytes; ``b""`` without pictures.

    Pictures of one size, and of one caption where there are captions, stand together, six in a
    row, or fewer where they are wider; the caption is above each row.
    A palette keeps the file small; where it is not enough the cells shrink.
    """
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet

    if not pictures:
        return b""
    shown = list(pictures[:SHEET_IMAGES])
    rows, above = _rows(shown, captions or [""] * len(shown))
    for cell_px in _CELLS_PX:
        sheet = Image.fromarray(
            contact_sheet(rows, captions=above if captions else None, cell_px=cell_px)
        )
        small = sheet.quantize(_COLOURS, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        small.save(buffer, format="PNG", optimize=True)
        if buffer.tell() < SHEET_MAX_BYTES:
            return buffer.getvalue()
    raise GenerationError(
        f"a contact sheet of {len(shown)} pictures takes {buffer.tell()} bytes at "
        f"{_CELLS_PX[-1]} px a cell, expected under {SHEET_MAX_BYTES}"
    )


def _rows(
    pictures: Sequence[Pixels], captions: Sequence[str]
) -> tuple[list[list[Pixels]], list[str]]:
    """Rows, and the caption of each."""
    alike: dict[tuple[int, int, str], list[Pixels]] = {}
    for pixels, caption in zip(pictures, captions, strict=False):
        height, width, _ = pixels.shape
        alike.setdefault((height, width, caption), []).append(pixels)
    rows, above = [], []
    for (height, width, caption), same in alike.items():
        columns = max(1, int(_COLUMNS * min(1.0, height / width)))
        for start in range(0, len(same), columns):
            rows.append(same[start : start + columns])
            above.append(caption)
    return rows, above
