"""Pixels decide: broken metadata is left out, missing pixels are missed."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from catalog_pipeline.catalog.decoding import RefusedPhotoError, decode_photo
from catalog_pipeline.records import Pixels
from catalog_pipeline.settings import CatalogSettings
from tests.catalog.pictures import (
    GRADIENT,
    PNG_HEADER_BYTES,
    encode,
    jpeg_segment,
    png_chunk,
)

SETTINGS = CatalogSettings()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TURNED = Image.Exif()
TURNED[0x0112] = 6

PNG, JPEG, WEBP = (encode(GRADIENT, kind) for kind in ("PNG", "JPEG", "WEBP"))
EXTENDED_WEBP = encode(GRADIENT, "WEBP", icc_profile=SRGB, exif=TURNED)
TWO_MEGABYTES = zlib.compress(b"x" * (2 << 20))


def pixels(data: bytes, catalog: CatalogSettings = SETTINGS) -> Pixels:
    return decode_photo(data, catalog).pixels


def is_refused(data: bytes, catalog: CatalogSettings = SETTINGS) -> bool:
    return refusal(data, catalog) is not None


def refusal(data: bytes, catalog: CatalogSettings) -> str | None:
    try:
        decoded = decode_photo(data, catalog)
    except RefusedPhotoError as error:
        return str(error)
    assert max(decoded.pixels.shape) <= catalog.working_side_px
    return None


def with_chunk(chunk: bytes) -> bytes:
    return PNG[:PNG_HEADER_BYTES] + chunk + PNG[PNG_HEADER_BYTES:]


BROKEN_CHUNKS = {
    "2 MB of zTXt": png_chunk(b"zTXt", b"Comment\0\0" + TWO_MEGABYTES),
    "2 MB of iTXt": png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + TWO_MEGABYTES),
    "2 MB of XMP": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + TWO_MEGABYTES),
    "a hundred texts": png_chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(900_000))) * 100,
    "text, unknown compression": png_chunk(b"zTXt", b"Comment\0\7xxx"),
    "text, wrong checksum": png_chunk(b"tEXt", b"Comment\0x", wrong_checksum=True),
    "an unknown chunk, wrong checksum": png_chunk(b"vpAg", b"x", wrong_checksum=True),
    "a name that is none": png_chunk(b"v\xe9Ag", b"x"),
    "2 MB of profile": png_chunk(b"iCCP", b"icc\0\0" + TWO_MEGABYTES),
    "profile, unknown compression": png_chunk(b"iCCP", b"icc\0\1x"),
    "profile, wrong checksum": png_chunk(b"iCCP", b"icc\0\0x", wrong_checksum=True),
    "profile, cut": png_chunk(b"iCCP", b"icc"),
    "profile, nothing": png_chunk(b"iCCP", b""),
    "profile, junk": png_chunk(b"iCCP", b"icc\0\0junk"),
    "resolution, cut": png_chunk(b"pHYs", b"x"),
    "gamma, cut": png_chunk(b"gAMA", b""),
    "chromaticities, cut": png_chunk(b"cHRM", b""),
    "rendering intent, cut": png_chunk(b"sRGB", b""),
    "transparent colour, cut": png_chunk(b"tRNS", b"x"),
    "animation, cut": png_chunk(b"acTL", b"x"),
    "animation, a frame outside": png_chunk(b"acTL", struct.pack(">2I", 2, 0))
    + png_chunk(b"fcTL", bytes(26)),
    "EXIF, junk": png_chunk(b"eXIf", b"x"),
    "EXIF as text, junk": png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  20\nzz"),
}


@pytest.mark.parametrize("chunk", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_what_is_broken_beside_the_pixels_of_a_png_is_passed_over(chunk: bytes) -> None:
    assert np.array_equal(pixels(with_chunk(chunk)), GRADIENT)
    assert np.array_equal(pixels(PNG[:-12] + chunk + PNG[-12:]), GRADIENT)


def test_one_broken_chunk_takes_no_other_with_it() -> None:
    grey = np.full((80, 96), 60, np.uint8)
    grey[40:] = 200
    options = {"transparency": 200, "exif": TURNED, "icc_profile": SRGB}
    plain = encode(Image.fromarray(grey), **options)
    broken = plain[:PNG_HEADER_BYTES] + BROKEN_CHUNKS["2 MB of zTXt"] + plain[PNG_HEADER_BYTES:]
    expected, decoded = decode_photo(plain, SETTINGS), decode_photo(broken, SETTINGS)
    assert decoded.pixels.shape == (96, 80, 3)
    assert np.array_equal(decoded.pixels, expected.pixels)
    assert decoded.mask is not None
    assert expected.mask is not None
    assert np.array_equal(decoded.mask, expected.mask)


BROKEN_SEGMENTS = {
    "JFIF, cut": jpeg_segment(0xE0, b"JFIF"),
    "Adobe, cut": jpeg_segment(0xEE, b"Adobe"),
    "profile, cut": jpeg_segment(0xE2, b"ICC_PROFILE\0"),
    "profile, pieces missing": jpeg_segment(0xE2, b"ICC_PROFILE\0\1\5junk"),
    "profile, junk": jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1junk"),
    "Photoshop, cut": jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\0\1"),
    "several pictures, junk": jpeg_segment(0xE2, b"MPF\0junkjunk"),
    "several pictures, none": jpeg_segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"),
    "EXIF, junk": jpeg_segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "XMP, junk": jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='9'\xff"),
    "two megabytes": jpeg_segment(0xE9, b"x" * 65_000) * 30,
}


@pytest.mark.parametrize("end", [0, 2], ids=["whole", "no end marker"])
@pytest.mark.parametrize("segment", BROKEN_SEGMENTS.values(), ids=BROKEN_SEGMENTS)
def test_what_is_broken_beside_the_pixels_of_a_jpeg_is_passed_over(
    segment: bytes, end: int
) -> None:
    broken = JPEG[:2] + segment + JPEG[2 : len(JPEG) - end]
    assert np.array_equal(pixels(broken), pixels(JPEG))


JPEGS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("RGB", {}),
    "best": ("RGB", {"quality": 100, "subsampling": 0}),
    "worst": ("RGB", {"quality": 5}),
    "progressive": ("RGB", {"progressive": True}),
    "restarts": ("RGB", {"restart_marker_blocks": 2}),
    "progressive, restarts": ("RGB", {"progressive": True, "restart_marker_rows": 1}),
    "grey": ("L", {}),
    "CMYK": ("CMYK", {}),
}


@pytest.mark.parametrize(("mode", "options"), JPEGS.values(), ids=JPEGS)
def test_a_jpeg_without_its_end_counts_and_one_without_pixels_does_not(
    mode: str, options: dict[str, Any]
) -> None:
    flat_end = GRADIENT.copy()
    flat_end[50:] = 255
    for picture in (GRADIENT, flat_end):
        data = encode(Image.fromarray(picture).convert(mode), "JPEG", **options)
        whole = pixels(data)
        for rest in (b"", b"\xff", b"\r\n", bytes(40)):
            assert np.array_equal(pixels(data[:-2] + rest), whole)
        first = data.index(b"\xff\xda")
        cuts = {*range(len(data) - 90, len(data) - 2), *range(first, len(data) - 2, 31)}
        for cut in cuts:
            # The last bits of a scan can say nothing: then nothing is lost.
            assert is_refused(data[:cut]) or np.array_equal(pixels(data[:cut]), whole)


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused() -> None:
    data = encode(GRADIENT, "JPEG", progressive=True)
    scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    assert len(scans) > 3
    for place in scans[1:]:
        tables = data.rfind(b"\xff\xc4", 0, place)
        assert is_refused(data[:place])
        assert is_refused(data[:tables])


def test_a_large_jpeg_is_held_to_the_same() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    data, small = encode(noise, "JPEG"), CatalogSettings(working_side_px=64)
    assert np.array_equal(pixels(data[:-2], small), pixels(data, small))
    for cut in (10, 60, 1000):
        assert is_refused(data[:-cut], small)


def test_of_several_pictures_in_a_jpeg_the_first_counts_whatever_became_of_the_rest() -> None:
    second = [Image.new("RGB", (96, 80))]
    data = encode(GRADIENT, "MPO", save_all=True, append_images=second)
    index = data.index(b"MPF\0")
    whole = pixels(data)
    assert np.array_equal(pixels(data[:-300]), whole)
    for place in range(index + 4, index + 90, 6):
        assert np.array_equal(pixels(data[:place] + b"\xff" * 4 + data[place + 4 :]), whole)


def test_a_webp_with_a_wrong_length_or_broken_metadata_counts() -> None:
    plain, turned = pixels(WEBP), pixels(EXTENDED_WEBP)
    size = len(WEBP) - 8
    for wrong in (size + 100, size - 20, 0, 0xFFFFFFFF):
        assert np.array_equal(pixels(WEBP[:4] + struct.pack("<I", wrong) + WEBP[8:]), plain)
    exif = EXTENDED_WEBP.index(b"EXIF")
    flags = np.rot90(turned)  # without EXIF it lies as it is stored
    for broken in (EXTENDED_WEBP[:exif], EXTENDED_WEBP[: exif + 10]):
        assert np.array_equal(pixels(broken), flags)
    for junk in ({"icc_profile": b"junk"}, {"exif": b"junk"}, {"xmp": b"junk"}):
        assert np.array_equal(pixels(encode(GRADIENT, "WEBP", **junk)), plain)
    assert is_refused(WEBP[:-2])
    assert is_refused(EXTENDED_WEBP[: exif - 30])


@pytest.mark.parametrize("data", [PNG, JPEG, WEBP], ids=["PNG", "JPEG", "WEBP"])
def test_what_follows_a_picture_does_not_matter(data: bytes) -> None:
    for rest in (b"\n", bytes(9), b"x" * 999, data):
        assert np.array_equal(pixels(data + rest), pixels(data))


def test_the_bounds_hold_for_what_is_mended() -> None:
    small = CatalogSettings(max_pixels=96 * 80 - 1)
    for data in (with_chunk(BROKEN_CHUNKS["2 MB of zTXt"]), JPEG[:-2], WEBP[:4] * 2 + WEBP[8:]):
        assert decode_photo(data, SETTINGS).pixels.shape == (80, 96, 3)
        with pytest.raises(RefusedPhotoError, match=r"7,680 pixels; expected at most 7,679"):
            decode_photo(data, small)


SEEDS = (
    *(PNG, JPEG, WEBP, EXTENDED_WEBP),
    encode(np.dstack([GRADIENT, GRADIENT[..., 0]]), exif=TURNED, icc_profile=SRGB),
    encode(Image.fromarray(GRADIENT).convert("P"), transparency=3),
    encode(GRADIENT, save_all=True, append_images=[Image.new("RGB", (96, 80))]),
    encode(GRADIENT, "JPEG", progressive=True, exif=TURNED, icc_profile=SRGB),
    encode(GRADIENT, "MPO", save_all=True, append_images=[Image.new("RGB", (96, 80))]),
    encode(GRADIENT, "WEBP", save_all=True, append_images=[Image.new("RGB", (96, 80))]),
    *(encode(GRADIENT, kind) for kind in ("TIFF", "GIF", "BMP", "AVIF")),
)
EDITS = st.lists(
    st.tuples(st.integers(0, 400), st.binary(min_size=0, max_size=6), st.booleans()), max_size=6
)


@settings(max_examples=150)
@given(st.sampled_from(SEEDS), EDITS, st.integers(0, 3000), st.binary(max_size=40))
def test_any_bytes_give_a_photo_within_bounds_or_one_line(
    seed: bytes, edits: list[tuple[int, bytes, bool]], length: int, rest: bytes
) -> None:
    data = bytearray(seed)
    for place, new, replaced in edits:
        data[place : place + len(new) * replaced] = new
    catalog = CatalogSettings(max_pixels=1_000_000, working_side_px=128)
    for tried in (bytes(data) + rest, bytes(data[:length]) + rest, rest):
        reason = refusal(tried, catalog)
        assert reason is None or reason.isprintable()
