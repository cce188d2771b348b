"""One file's bytes to an upright RGB picture, under bounds, or the reason why not."""

from __future__ import annotations

import codecs
import contextlib
import io
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError

from catalog_pipeline.catalog.mending import BROKEN, mended
from catalog_pipeline.records import Pixels
from catalog_pipeline.settings import CatalogSettings

_FORMATS = ("JPEG", "PNG", "WEBP")
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIGNATURES = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML text"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)
_CLEAR_ALPHA, _SOLID_ALPHA = 16, 240
_CUT_OUT_SHARE = 0.01
_MAX_ASPECT = 8
_PNG_BIT_DEPTH = 24
"""Where the bits a channel stand in a PNG."""


class RefusedPhotoError(Exception):
    """The file cannot be used; the text is the reason, in words for the photographer."""


class _DamagedPhotoError(RefusedPhotoError):
    """The reader stumbled: over the pixels, or only over metadata."""


@dataclass(frozen=True)
class DecodedPhoto:
    """``pixels`` (height, width, 3) and, of a cut-out, its opacity (height, width), 0..255."""

    pixels: Pixels
    mask: npt.NDArray[np.uint8] | None


def decode_photo(data: bytes, settings: CatalogSettings) -> DecodedPhoto:
    """Decode a JPEG, PNG or WebP in full.

    The size in the header is checked before any pixel is decoded. The picture is
    turned upright by its EXIF orientation, laid on white where it is transparent,
    brought to 8-bit sRGB by its colour profile, and reduced to ``working_side_px``.
    Of an animation the first frame counts. Metadata that is broken is passed over; pixels
    have to be whole.

    Raises:
        RefusedPhotoError: not such a picture, truncated, too large, too small or a strip.
    """
    if not data:
        raise RefusedPhotoError("is empty (0 bytes); copy it again")
    with warnings.catch_warnings():
        # Odd metadata and Pillow's own pixel limit warn; the bounds here are what counts.
        warnings.simplefilter("ignore")
        try:
            picture = _read(data, settings)
        except _DamagedPhotoError as error:
            picture = _read_mended(data, settings, error)
        orientation = _orientation(picture)
        profile = picture.info.get("icc_profile")
        colours, alpha = _split(picture)
    if orientation is not None:
        colours = colours.transpose(orientation)
        alpha = alpha.transpose(orientation) if alpha is not None else None
    if alpha is not None:
        # Before reducing: the colours hidden under clear pixels must not bleed into the edge.
        colours = _on_white(colours, alpha)
    target = _reduced_size(colours.size, settings.working_side_px)
    if target != colours.size:
        colours = colours.resize(target, Image.Resampling.LANCZOS)
        alpha = alpha.resize(target, Image.Resampling.LANCZOS) if alpha is not None else None
    pixels: Pixels = np.array(_to_srgb(colours, profile))
    return DecodedPhoto(pixels, None if alpha is None else _cut_out(np.array(alpha)))


def _read(data: bytes, settings: CatalogSettings) -> Image.Image:
    """The decoded picture, its transparent colour in the bits of its pixels."""
    picture = _open(data)
    _check_size(picture.size, settings)
    if picture.format == "PNG":
        _scale_key(picture, data[_PNG_BIT_DEPTH])
    try:
        picture.draft(None, (2 * settings.working_side_px,) * 2)
        picture.load()
    except BROKEN as error:
        raise _DamagedPhotoError(
            f"is damaged or truncated ({_one_line(error)}); copy or export it again"
        ) from error
    return picture


def _read_mended(data: bytes, settings: CatalogSettings, error: _DamagedPhotoError) -> Image.Image:
    """The picture without its broken metadata; ``error`` when that does not help."""
    read = partial(_read, settings=settings)
    with contextlib.suppress(_DamagedPhotoError):
        whole = mended(data, read)
        if whole is not None:
            return read(whole)
    raise error


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise RefusedPhotoError(
            f"has too many pixels to be opened safely ({_one_line(error)}); reduce it"
        ) from error
    except UnidentifiedImageError as error:
        raise _DamagedPhotoError(_what_it_is(data)) from error
    except BROKEN as error:
        raise _DamagedPhotoError(
            f"has a damaged header ({_one_line(error)}); copy or export it again"
        ) from error


def _check_size(size: tuple[int, int], settings: CatalogSettings) -> None:
    width, height = size
    if width * height > settings.max_pixels:
        raise RefusedPhotoError(
            f"is {width} x {height} = {width * height:,} pixels; expected at most "
            f"{settings.max_pixels:,}; reduce it"
        )
    if min(width, height) < settings.min_side_px:
        raise RefusedPhotoError(
            f"is {width} x {height} pixels; expected a shorter side of at least "
            f"{settings.min_side_px}; use a larger photo"
        )
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise RefusedPhotoError(
            f"is {width} x {height} pixels; expected a longer side of at most {_MAX_ASPECT} times "
            "the shorter; crop it to the product"
        )


def _scale_key(picture: Image.Image, bits: int) -> None:
    """Bring the transparent colour, which the reader leaves in the file's bits, to 8."""
    key, top = picture.info.get("transparency"), (1 << bits) - 1
    if picture.mode == "L" and isinstance(key, int):
        picture.info["transparency"] = (key & top) * (255 // top)
    elif picture.mode == "RGB" and isinstance(key, tuple):
        picture.info["transparency"] = tuple((value & top) >> (bits - 8) for value in key)


def _orientation(picture: Image.Image) -> Image.Transpose | None:
    """How to turn the picture upright; damaged EXIF says nothing."""
    try:
        return _UPRIGHT.get(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except BROKEN:
        return None


def _split(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours (RGB, or CMYK when there is a profile to read it by) and opacity, 8 bits each."""
    if picture.mode.startswith("I"):
        values = np.clip(np.asarray(picture), 0, 0xFFFF)
        grey = Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
        key = picture.info.get("transparency")
        if key is None:
            return grey, None
        return grey, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        full = picture.convert("RGBA")
        return full.convert("RGB"), full.getchannel("A")
    if picture.mode == "CMYK" and picture.info.get("icc_profile"):
        return picture, None
    return picture.convert("RGB"), None


def _reduced_size(size: tuple[int, int], longer_side_px: int) -> tuple[int, int]:
    """``size`` with its longer side at ``longer_side_px`` at most; never enlarged."""
    scale = min(1.0, longer_side_px / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _to_srgb(colours: Image.Image, profile: bytes | None) -> Image.Image:
    """``colours`` in sRGB; a profile that is damaged or of another colour model is passed over."""
    converted: Image.Image | None = None
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            converted = ImageCms.profileToProfile(
                colours,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
    return colours.convert("RGB") if converted is None else converted


def _on_white(colours: Image.Image, alpha: Image.Image) -> Image.Image:
    flattened = Image.new("RGB", colours.size, (255, 255, 255))
    flattened.paste(colours, mask=alpha)
    return flattened


def _cut_out(opacity: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    """The opacity when it outlines something; ``None`` for plain or evenly faded pictures."""
    if not (opacity > _CLEAR_ALPHA).any():
        raise RefusedPhotoError("is entirely transparent; export it with the product visible")
    clear = float((opacity <= _CLEAR_ALPHA).mean())
    solid = float((opacity >= _SOLID_ALPHA).mean())
    return opacity if min(clear, solid) >= _CUT_OUT_SHARE else None


def _what_it_is(data: bytes) -> str:
    """Why bytes that no reader knows are no photo."""
    head = data[:64]
    if head.startswith((b"\xff\xd8", b"\x89PNG")) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP"):
        return "is damaged or truncated (its header breaks off); copy or export it again"
    name = next((what for signature, what in _SIGNATURES if head.startswith(signature)), None)
    if head[4:8] == b"ftyp":
        name = "a HEIC, AVIF or video file"
    if name is None and _is_text(data[:1024]):
        name = "a text file"
    if name is None:
        return (
            f"is not a readable JPEG, PNG or WebP (begins with {bytes(head[:8])!r}); copy it again"
        )
    return f"is {name}, whatever its name says; expected a JPEG, PNG or WebP; export it as one"


def _is_text(head: bytes) -> bool:
    try:
        # Incremental: the cut may run through a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
