"""A picture file without the metadata that its reader stumbles over, its pixels as they were."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable

from PIL import Image

BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow's readers raise over damaged files."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_ANCILLARY = 0x20
_PNG_NEEDED = (
    b"tRNS",
    b"iCCP",
    b"eXIf",
    b"iTXtXML:com.adobe.xmp\0",
    b"tEXtRaw profile type exif\0",
    b"zTXtRaw profile type exif\0",
)
"""How an ancillary chunk begins that says how the pixels are to be seen."""

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_SOS, _EOI, _COM = 0xDA, 0xD9, 0xFE
_APPS = range(0xE0, 0xF0)
_NEEDED_APPS = frozenset({0xE0, 0xE1, 0xE2, 0xEE})
"""JFIF, EXIF and XMP, colour profile, Adobe's colour transform."""

_MOST_SEGMENTS = 1000
"""A colour profile has up to 255; each is tried alone."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ONE_PIXEL = b"\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Ends the coded pixels of a scan: neither a stuffed byte nor a restart."""

_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_FILLER = b"\xaa\x55\xc3\x69" * 64
"""Coded pixels of no picture: decoded where pixels are lacking, else passed over."""


def mended(data: bytes, read: Callable[[bytes], Image.Image]) -> bytes | None:
    """``data``, of which ``read`` said that it is damaged, with what is broken left out.

    Metadata that the reader takes stays (orientation, colour profile, transparency).
    No pixel is made up: a JPEG or a WebP that lacks only its end gets one, a file that
    lacks pixels stays as unreadable as it was.

    Returns:
        A file to read instead; ``None`` where there is none.

    Raises:
        Exception: what ``read`` raises.
    """
    if data.startswith(_PNG_SIGNATURE):
        return _mended_png(data)
    if data.startswith(_JPEG_START + b"\xff"):
        return _mended_jpeg(data, read)
    if (data[:4], data[8:12]) == (b"RIFF", b"WEBP"):
        return _mended_webp(data)
    return None


def _opens(data: bytes, kind: str) -> bool:
    try:
        Image.open(io.BytesIO(data), formats=(kind,))
    except BROKEN:
        return False
    return True


def _mended_png(data: bytes) -> bytes:
    header = b"IHDR" + struct.pack(">II", 1, 1) + data[24:29]
    one_pixel = _PNG_SIGNATURE + struct.pack(">I", 13) + header
    one_pixel += struct.pack(">I", zlib.crc32(header))
    needed = set(_PNG_NEEDED)
    kept, place = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunk = data[place : place + 12 + length]
        place += 12 + length
        if chunk[4] & _PNG_ANCILLARY:
            name = next((name for name in needed if chunk[4:].startswith(name)), None)
            if name is None:
                continue
            needed.remove(name)
            if not _opens(one_pixel + chunk + b"\0\0\0\0IDAT", "PNG"):
                continue
        kept.append(chunk)
    return b"".join(kept) + data[place:]


def _mended_jpeg(data: bytes, read: Callable[[bytes], Image.Image]) -> bytes | None:
    kept, place, components, tried = [_JPEG_START], len(_JPEG_START), 0, 0
    while len(data) >= place + 4 and data[place] == 0xFF and data[place + 1] != _SOS:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        segment = data[place : place + 2 + int.from_bytes(data[place + 2 : place + 4])]
        place += len(segment)
        if marker in _FRAMES and len(segment) > 9:
            components = segment[9]
        if marker in _APPS or marker == _COM:
            tried += marker in _NEEDED_APPS
            needed = marker in _NEEDED_APPS and tried <= _MOST_SEGMENTS
            if not (needed and _opens(_JPEG_START + segment + _ONE_PIXEL, "JPEG")):
                continue
        kept.append(segment)
    coded = data[place:].rstrip(b"\xff")
    ended, complete = _scans(coded, components)
    begun = b"".join(kept) + coded
    if ended:
        return begun
    whole = begun + _JPEG_END
    filled = begun + _FILLER + _next_restart(coded) + _FILLER + _JPEG_END
    if complete and read(whole).tobytes() == read(filled).tobytes():
        return whole
    return None


def _next_restart(coded: bytes) -> bytes:
    """The marker that the last scan goes on with, where it is coded in restart intervals."""
    marks = _RESTART.findall(coded, coded.rfind(bytes([0xFF, _SOS])))
    return bytes([0xFF, 0xD0 + (marks[-1][1] + 1) % 8 if marks else 0xD0])


def _scans(coded: bytes, components: int) -> tuple[bool, bool]:
    """Whether the end marker is there, and whether every coefficient has its last scan."""
    final: set[tuple[int, int]] = set()
    place = 0
    while match := _MARKER.search(coded, place):
        start = match.start()
        if coded[start + 1] == _EOI:
            return True, True
        place = start + 2 + int.from_bytes(coded[start + 2 : start + 4])
        header = coded[start:place]
        if coded[start + 1] == _SOS and len(header) >= 10:
            first, last, precision = header[-3:]
            if precision & 0x0F == 0:
                ids = header[5:-3:2]
                final |= {(n, k) for n in ids for k in range(first, min(last, 63) + 1)}
    return False, len(final) == 64 * components > 0


def _mended_webp(data: bytes) -> bytes:
    kept, place = [b"WEBP"], 12
    while place + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, place + 4)
        chunk = data[place : place + 8 + size]
        if len(chunk) < 8 + size:
            break
        kept.append(chunk + bytes(size % 2))
        place += 8 + size + size % 2
    body = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body
