"""Pictures side by side, and pictures as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.records import Pixels

_GAP_PX = 2
_CAPTION_PX = 18
_PAPER = (255, 255, 255)
_INK = (60, 64, 72)
_SMALLEST_SIDE_PX = 16
_WIDEST = 2.5
"""Width by height of a cell, at most."""


def contact_sheet(
    rows: Sequence[Sequence[Pixels]],
    *,
    captions: Sequence[str] | None = None,
    cell_px: int = 128,
    square: bool = False,
) -> Pixels:
    """Lay pictures out in rows; each picture keeps its proportions.

    The cells of a row are square, or, where its pictures are all of one size and
    wider than high (scenes of several products), as wide as they.

    Args:
        rows: pictures of any size; rows may differ in length, and may be empty.
        captions: one line of text above each row; longer text is cut with an ellipsis.
        cell_px: height of a cell.
        square: make all cells square, so that columns stand below one another.

    Returns:
        One RGB picture, at least one cell large.

    Raises:
        ValueError: the number of captions is not the number of rows.
    """
    if captions is not None and len(captions) != len(rows):
        raise ValueError(f"got {len(captions)} captions for {len(rows)} rows; expected one a row")
    widths = [cell_px if square else _cell_width(row, cell_px) for row in rows]
    header = _CAPTION_PX if captions is not None else 0
    pitch = header + cell_px + _GAP_PX
    lengths = [len(row) * (cell + _GAP_PX) for row, cell in zip(rows, widths, strict=True)]
    width = max([cell_px + _GAP_PX, *lengths]) - _GAP_PX
    sheet = Image.new("RGB", (width, max(1, len(rows)) * pitch - _GAP_PX), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for line, row in enumerate(rows):
        top = line * pitch
        if captions is not None:
            text = _shortened(captions[line], draw, font, width - 4)
            draw.text((2, top + 2), text, fill=_INK, font=font)
        for column, pixels in enumerate(row):
            cell = _fitted(pixels, widths[line], cell_px)
            left = column * (widths[line] + _GAP_PX) + (widths[line] - cell.width) // 2
            sheet.paste(cell, (left, top + header + (cell_px - cell.height) // 2))
    return np.asarray(sheet)


def encode_png(pixels: Pixels, max_bytes: int | None = None) -> bytes:
    """PNG bytes, the same for the same pixels.

    Args:
        pixels: an RGB picture.
        max_bytes: where given, the picture is shrunk until its file fits; a
            picture of 16 px a side is the end of it.
    """
    return _encode(pixels, max_bytes, format="PNG", compress_level=6)


def encode_jpeg(pixels: Pixels, max_bytes: int | None = None, *, quality: int = 88) -> bytes:
    """JPEG bytes; ``max_bytes`` as in :func:`encode_png`."""
    return _encode(pixels, max_bytes, format="JPEG", quality=quality)


def decode_png(data: bytes) -> Pixels:
    """An RGB picture from the bytes of a PNG, alpha ignored.

    Raises:
        IntegrityError: the bytes are not a whole PNG.
    """
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise IntegrityError(
            f"got {len(data)} bytes that are not a whole PNG ({error}); expected a PNG file"
        ) from error


def _encode(pixels: Pixels, max_bytes: int | None, **options: object) -> bytes:
    image = Image.fromarray(pixels)
    while True:
        buffer = BytesIO()
        image.save(buffer, **options)  # type: ignore[arg-type]
        data = buffer.getvalue()
        if max_bytes is None or len(data) <= max_bytes or min(image.size) <= _SMALLEST_SIDE_PX:
            return data
        # Bytes grow about with the area; 0.95 leaves room so that few rounds are needed.
        scale = min(0.9, 0.95 * (max_bytes / len(data)) ** 0.5)
        side = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(side, Image.Resampling.LANCZOS)


def _cell_width(row: Sequence[Pixels], cell_px: int) -> int:
    sizes = {Image.fromarray(pixels).size for pixels in row}
    if len(sizes) != 1:
        return cell_px
    width, height = sizes.pop()
    return round(cell_px * min(_WIDEST, max(1.0, width / height)))


def _fitted(pixels: Pixels, cell_width: int, cell_height: int) -> Image.Image:
    image = Image.fromarray(pixels)
    scale = min(cell_width / image.width, cell_height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _shortened(
    text: str,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width_px: int,
) -> str:
    line = " ".join(text.split())
    if draw.textlength(line, font=font) <= width_px:
        return line
    while line and draw.textlength(line + "…", font=font) > width_px:
        line = line[:-1]
    return line + "…"
