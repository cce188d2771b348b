"""Files of pictures: the digest of what they show, and damage that is told, not raised."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.evaluation.contact_sheet import encode_png
from catalog_pipeline.provenance.picture_files import (
    has_credentials,
    pixel_digest,
    read_picture,
    with_xmp,
    xmp_of,
)
from tests.provenance.pictures import encoded, scene

PIXELS = scene(24)


def test_the_digest_is_over_what_the_words_say() -> None:
    expected = hashlib.sha256(b"RGB 24 24\n" + PIXELS.tobytes()).hexdigest()
    assert pixel_digest(PIXELS) == expected
    assert pixel_digest(np.asfortranarray(PIXELS)) == expected
    (changed := PIXELS.copy())[3, 4, 1] ^= 1
    assert pixel_digest(changed) != expected
    assert pixel_digest(PIXELS.reshape(12, 48, 3)) != expected


@pytest.mark.parametrize(
    ("form", "media_type", "options"),
    [
        ("PNG", "image/png", {"compress_level": 1}),
        ("WEBP", "image/webp", {"lossless": True, "exact": True}),
    ],
)
def test_the_digest_outlives_a_lossless_file(form: str, media_type: str, options: dict) -> None:
    found = read_picture(encoded(PIXELS, form, **options))
    assert (found.media_type, found.damage) == (media_type, "")
    assert found.pixels is not None
    assert pixel_digest(found.pixels) == pixel_digest(PIXELS)


def test_a_damaged_file_still_says_what_it_can() -> None:
    png = with_xmp(encode_png(PIXELS), b"told")
    found = read_picture(png[:-80])
    assert (found.pixels, found.xmp) == (None, b"told")
    assert found.damage
    assert read_picture(png[:20]).damage


def test_what_shows_more_than_its_pixels_is_not_plain() -> None:
    """A hidden half or a second frame is another picture, though the first frame is the same."""
    image, half = Image.fromarray(PIXELS), Image.new("L", (24, 24), 255)
    half.paste(0, (0, 0, 12, 24))
    for opacity, form, plain in ((255, "PNG", True), (half, "PNG", False), (half, "WEBP", False)):
        image.putalpha(opacity)
        stream = io.BytesIO()
        image.save(stream, form, lossless=True, exact=True)
        found = read_picture(stream.getvalue())
        assert found.pixels is not None
        assert (found.plain, pixel_digest(found.pixels)) == (plain, pixel_digest(PIXELS))
    for form in ("PNG", "WEBP"):
        stream, frames = io.BytesIO(), [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
        frames[0].save(stream, form, save_all=True, append_images=frames[1:], lossless=True)
        assert not read_picture(stream.getvalue()).plain


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"no picture at all"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="expected a PNG, JPEG or WebP"):
        read_picture(data)


def test_only_a_png_takes_a_chunk() -> None:
    for data in (b"", b"\x89PNG\r\n\x1a\n", encoded(PIXELS, "JPEG")):
        assert xmp_of(data) == b""
        assert not has_credentials(data)
        with pytest.raises(IntegrityError, match="expected a PNG file"):
            with_xmp(data, b"told")
