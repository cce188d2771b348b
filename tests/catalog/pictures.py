"""Picture files, written by a library or byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

GRADIENT = np.stack(
    [
        np.tile(np.linspace(0, 255, 96, dtype=np.uint8), (80, 1)),
        np.tile(np.linspace(255, 0, 80, dtype=np.uint8)[:, None], (1, 96)),
        np.full((80, 96), 128, np.uint8),
    ],
    axis=-1,
)  # (80, 96, 3)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEADER_BYTES = 33
"""Signature and IHDR."""


def encode(pixels: npt.NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes, *, wrong_checksum: bool = False) -> bytes:
    checksum = zlib.crc32(kind + content) ^ wrong_checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(
    width: int,
    height: int,
    *,
    bits: int = 8,
    colour: int = 2,
    data: bytes = b"",
    chunks: bytes = b"",
) -> bytes:
    """A PNG by hand; ``data`` are the uncompressed scanlines, ``chunks`` come before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + chunks + png_chunk(b"IDAT", zlib.compress(data))
    return PNG_SIGNATURE + body + png_chunk(b"IEND", b"")


def scanlines(samples: npt.NDArray[Any], bits: int) -> bytes:
    """``samples`` (height, width, channels) as a PNG stores them, unfiltered."""
    rows = samples.reshape(len(samples), -1)
    places = np.arange(bits - 1, -1, -1)
    coded = (rows[..., None] >> places & 1).reshape(len(rows), -1).astype(np.uint8)
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in coded)


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
