"""The file of a picture: its pixels, their digest, and the chunks of a PNG that speak of it."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.records import Pixels

PNG = "image/png"
MEDIA_TYPES = {"PNG": PNG, "JPEG": "image/jpeg", "WEBP": "image/webp"}

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_PLAIN = b"\0\0\0\0\0"
"""After the keyword: not compressed, method 0, no language, no translated keyword."""
_CREDENTIALS = b"caBX"
"""The chunk that holds a C2PA manifest store."""


@dataclass(frozen=True, eq=False)
class PictureFile:
    """A picture as it was read.

    ``media_type`` is one of :data:`MEDIA_TYPES`; ``xmp`` is the packet, empty without one.
    ``pixels`` is ``None`` where they cannot be decoded, and ``damage`` says why. ``plain``: they
    are what the file shows; not so with frames after the first, or where it is transparent.
    """

    media_type: str
    xmp: bytes
    pixels: Pixels | None
    damage: str = ""
    plain: bool = True


def pixel_digest(pixels: Pixels) -> str:
    """SHA-256 over what a picture shows, whatever file it is in.

    Over ``RGB <width> <height>`` and a line feed in ASCII, then a byte each for red, green and
    blue, pixel by pixel from left to right, row by row from the top. Metadata and signatures
    leave it alone; a single changed pixel does not.
    """
    height, width, _ = pixels.shape
    digest = hashlib.sha256(f"RGB {width} {height}\n".encode())
    digest.update(np.ascontiguousarray(pixels, np.uint8).data)
    return digest.hexdigest()


def read_picture(data: bytes) -> PictureFile:
    """Decode a PNG, JPEG or WebP; transparency is ignored, rotation by EXIF not applied.

    Raises:
        IntegrityError: the bytes do not begin as any of these does.
    """
    media_type = _media_type(data)
    xmp = b""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=list(MEDIA_TYPES)) as image:
                packet = image.info.get("xmp") or image.info.get(_XMP_KEYWORD.decode()) or b""
                xmp = packet.encode() if isinstance(packet, str) else bytes(packet)
                plain = getattr(image, "n_frames", 1) == 1 and not _shines_through(image)
                return PictureFile(media_type, xmp, np.asarray(image.convert("RGB")), plain=plain)
    except (
        *(UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error),
        *(Image.DecompressionBombWarning, Image.DecompressionBombError),
    ) as error:
        return PictureFile(media_type, xmp, None, str(error))


def _shines_through(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return False
    return image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def _media_type(data: bytes) -> str:
    if data.startswith(_SIGNATURE):
        return MEDIA_TYPES["PNG"]
    if data.startswith(b"\xff\xd8\xff"):
        return MEDIA_TYPES["JPEG"]
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return MEDIA_TYPES["WEBP"]
    raise IntegrityError(
        f"got {len(data)} bytes that begin with {data[:8]!r}; expected a PNG, JPEG or WebP file"
    )


def with_xmp(png: bytes, packet: bytes) -> bytes:
    """``png`` with an XMP packet in a chunk ``iTXt`` after its head; every other byte stays.

    Raises:
        IntegrityError: the bytes do not begin as a PNG does.
    """
    body = _XMP_KEYWORD + _PLAIN + packet
    end = next((end for kind, _, end in _chunks(png) if kind == b"IHDR"), 0)
    if not end:
        raise IntegrityError(f"got {len(png)} bytes without the head of a PNG; expected a PNG file")
    length = struct.pack(">I", len(body))
    checksum = struct.pack(">I", zlib.crc32(b"iTXt" + body))
    return png[:end] + length + b"iTXt" + body + checksum + png[end:]


def xmp_of(png: bytes) -> bytes:
    """The XMP packet of a PNG, empty without one; its pixels are not decoded."""
    head = _XMP_KEYWORD + _PLAIN
    for kind, start, end in _chunks(png):
        if kind == b"iTXt" and png.startswith(head, start + 8):
            return png[start + 8 + len(head) : end - 4]
    return b""


def has_credentials(png: bytes) -> bool:
    """Whether a PNG carries Content Credentials, valid or not."""
    return any(kind == _CREDENTIALS for kind, _, _ in _chunks(png))


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of every whole chunk: length, kind, body and checksum."""
    place = len(_SIGNATURE)
    while png.startswith(_SIGNATURE) and place + 12 <= len(png):
        end = place + 12 + struct.unpack_from(">I", png, place)[0]
        if end > len(png):
            return
        yield png[place + 4 : place + 8], place, end
        place = end
