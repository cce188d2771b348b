"""From bytes to upright RGB, or the reason why not."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from catalog_pipeline.catalog.decoding import RefusedPhotoError, decode_photo
from catalog_pipeline.settings import CatalogSettings
from tests.catalog.pictures import GRADIENT, encode, png, png_chunk, scanlines

SETTINGS = CatalogSettings()


def refusal(data: bytes, settings: CatalogSettings = SETTINGS) -> str:
    with pytest.raises(RefusedPhotoError) as caught:
        decode_photo(data, settings)
    reason = str(caught.value)
    assert reason.isprintable()
    return reason


@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("JPEG", 12), ("WEBP", 12)])
def test_each_format_gives_its_pixels_and_no_mask(kind: str, tolerance: int) -> None:
    decoded = decode_photo(encode(GRADIENT, kind), SETTINGS)
    assert decoded.mask is None
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    assert decoded.pixels.shape == (80, 96, 3)
    assert np.abs(decoded.pixels.astype(int) - GRADIENT.astype(int)).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_ends_upright(orientation: int, kind: str) -> None:
    # What a camera held so would have stored: the inverse of the turn that the tag asks for.
    stored = {
        1: GRADIENT,
        2: GRADIENT[:, ::-1],
        3: GRADIENT[::-1, ::-1],
        4: GRADIENT[::-1],
        5: GRADIENT.transpose(1, 0, 2),
        6: np.rot90(GRADIENT),
        7: GRADIENT[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(GRADIENT, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(np.ascontiguousarray(stored), kind, exif=exif)
    decoded = decode_photo(data, SETTINGS)
    assert decoded.pixels.shape == (80, 96, 3)
    assert np.abs(decoded.pixels.astype(int) - GRADIENT.astype(int)).max() <= 12


def test_a_mask_turns_with_its_photo() -> None:
    alpha = np.zeros((80, 96), np.uint8)
    alpha[:20, :30] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(np.ascontiguousarray(np.rot90(np.dstack([GRADIENT, alpha]))), exif=exif)
    mask = decode_photo(data, SETTINGS).mask
    assert mask is not None
    assert np.array_equal(mask, alpha)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x"])
def test_damaged_exif_leaves_the_photo_as_it_is(exif: bytes) -> None:
    assert decode_photo(encode(GRADIENT, "JPEG", exif=exif), SETTINGS).pixels.shape == (80, 96, 3)


def test_a_cut_out_is_laid_on_white_and_its_opacity_kept() -> None:
    alpha = np.zeros((80, 96), np.uint8)
    alpha[20:60, 20:70] = 255
    alpha[40, 40] = 128
    hidden = GRADIENT.copy()
    hidden[alpha == 0] = (255, 0, 0)  # the colour under clear pixels must not be seen
    decoded = decode_photo(encode(np.dstack([hidden, alpha])), SETTINGS)
    assert decoded.mask is not None
    assert np.array_equal(decoded.mask, alpha)
    assert (decoded.pixels[alpha == 0] == 255).all()
    assert np.array_equal(decoded.pixels[alpha == 255], GRADIENT[alpha == 255])
    half = (GRADIENT[40, 40].astype(int) + 255) / 2
    assert np.abs(decoded.pixels[40, 40] - half).max() <= 2


def test_hidden_colours_do_not_bleed_when_a_cut_out_is_reduced() -> None:
    alpha = np.zeros((400, 400), np.uint8)
    alpha[:, 200:] = 255
    pixels = np.zeros((400, 400, 4), np.uint8)
    pixels[:, 200:, :3] = 250
    pixels[..., 3] = alpha
    decoded = decode_photo(encode(pixels), CatalogSettings(working_side_px=64))
    assert decoded.pixels.shape == (64, 64, 3)
    assert decoded.mask is not None
    assert decoded.mask.shape == (64, 64)
    assert decoded.pixels.min() >= 249


@pytest.mark.parametrize("alpha", [255, 254, 128])
def test_an_even_alpha_is_no_cut_out(alpha: int) -> None:
    full = np.dstack([GRADIENT, np.full((80, 96), alpha, np.uint8)])
    assert decode_photo(encode(full), SETTINGS).mask is None


def test_palette_grey_alpha_and_keyed_transparency_are_cut_outs_too() -> None:
    grey = np.full((80, 96), 60, np.uint8)
    alpha = np.zeros((80, 96), np.uint8)
    alpha[:40] = 255
    palette = Image.fromarray(np.where(alpha == 0, 0, 1).astype(np.uint8), "P")
    palette.putpalette([255, 0, 0, 60, 60, 60])
    keyed = np.where(alpha == 0, 255, grey).astype(np.uint8)
    for data in (
        encode(np.dstack([grey, alpha])),
        encode(palette, transparency=0),
        encode(Image.fromarray(keyed), transparency=255),
        encode(np.dstack([grey, grey, grey, alpha]), "WEBP", lossless=True),
    ):
        decoded = decode_photo(data, SETTINGS)
        assert decoded.mask is not None
        assert np.array_equal(decoded.mask, alpha)
        assert (decoded.pixels[:40] == 60).all()
        assert (decoded.pixels[40:] == 255).all()


COLOUR_TYPES = {
    "grey": (0, (1, 2, 4, 8, 16)),
    "colour": (2, (8, 16)),
    "palette": (3, (1, 2, 4, 8)),
    "grey and alpha": (4, (8, 16)),
    "colour and alpha": (6, (8, 16)),
}
KINDS = [(kind, bits) for kind, (_, depths) in COLOUR_TYPES.items() for bits in depths]


@pytest.mark.parametrize(("kind", "bits"), KINDS, ids=str)
def test_what_is_clear_in_any_kind_of_png_is_white_and_masked(kind: str, bits: int) -> None:
    top = (1 << bits) - 1
    solid, clear = top // 3, top
    seen, hidden, chunks = [solid], [clear], png_chunk(b"tRNS", struct.pack(">H", clear))
    if kind == "colour":
        seen, hidden = [solid] * 3, [clear, 0, solid]
        chunks = png_chunk(b"tRNS", struct.pack(">3H", *hidden))
    elif kind == "palette":
        seen, hidden, solid, top = [0], [1], 85, 255
        chunks = png_chunk(b"PLTE", bytes([85, 85, 85, 200, 0, 0]))
        chunks += png_chunk(b"tRNS", b"\xff\0")
    elif kind.endswith("alpha"):
        channels = 1 if kind == "grey and alpha" else 3
        seen, hidden, chunks = [solid] * channels + [top], [clear] * channels + [0], b""
    samples = np.empty((80, 96, len(seen)), np.int64)
    samples[:40], samples[40:] = seen, hidden
    colour = COLOUR_TYPES[kind][0]
    data = png(96, 80, bits=bits, colour=colour, data=scanlines(samples, bits), chunks=chunks)
    decoded = decode_photo(data, SETTINGS)
    assert decoded.mask is not None
    assert (decoded.mask[:40] == 255).all()
    assert (decoded.mask[40:] == 0).all()
    assert (decoded.pixels[40:] == 255).all()
    assert np.abs(decoded.pixels[:40].astype(int) - solid * 255 // top).max() <= 1


def test_plain_palette_grey_bilevel_and_cmyk_become_rgb() -> None:
    picture = Image.fromarray(GRADIENT)
    for data in (
        encode(picture.convert("L")),
        encode(picture.convert("1")),
        encode(picture.convert("P", palette=Image.Palette.ADAPTIVE)),
        encode(picture.convert("CMYK"), "JPEG"),
    ):
        decoded = decode_photo(data, SETTINGS)
        assert decoded.pixels.shape == (80, 96, 3)
        assert decoded.mask is None
    cmyk = decode_photo(encode(picture.convert("CMYK"), "JPEG", quality=95), SETTINGS)
    assert np.abs(cmyk.pixels.astype(int) - GRADIENT.astype(int)).mean() < 8


def test_sixteen_bits_keep_their_brightness() -> None:
    ramp = np.linspace(0, 65535, 96, dtype=np.uint16)
    grey = np.tile(ramp, (80, 1))
    decoded = decode_photo(encode(Image.fromarray(grey)), SETTINGS)
    assert np.abs(decoded.pixels[..., 0].astype(int) - (grey >> 8)).max() <= 1
    lines = b"".join(
        b"\0" + np.stack([ramp, ramp[::-1], ramp], -1).astype(">u2").tobytes() for _ in range(80)
    )
    colour = decode_photo(png(96, 80, bits=16, data=lines), SETTINGS)
    assert np.abs(colour.pixels[0, :, 1].astype(int) - (ramp[::-1] >> 8)).max() <= 1


def test_a_colour_profile_is_applied_and_a_damaged_one_passed_over() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    decoded = decode_photo(encode(GRADIENT, icc_profile=srgb), SETTINGS)
    assert np.abs(decoded.pixels.astype(int) - GRADIENT.astype(int)).max() <= 2
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (b"no profile", lab, srgb[:200]):
        kept = decode_photo(encode(GRADIENT, icc_profile=profile), SETTINGS)
        assert np.array_equal(kept.pixels, GRADIENT)


@pytest.mark.parametrize(("size", "expected"), [((4000, 1000), (64, 256, 3)), ((70, 90), None)])
def test_a_photo_is_reduced_to_the_longer_side_and_never_enlarged(
    size: tuple[int, int], expected: tuple[int, int, int] | None
) -> None:
    data = encode(Image.new("RGB", size, (10, 200, 30)), "JPEG")
    decoded = decode_photo(data, CatalogSettings(working_side_px=256))
    assert decoded.pixels.shape == (expected or (90, 70, 3))
    assert np.abs(decoded.pixels.astype(int) - [10, 200, 30]).max() <= 3


def test_twenty_thousand_pixels_a_side_are_refused_by_the_header() -> None:
    assert "too many pixels" in refusal(png(20_000, 20_000))
    # Below the limit of the reader itself, the bound of the settings is what counts.
    reason = refusal(png(12_000, 12_000))
    assert "12000 x 12000 = 144,000,000 pixels; expected at most 60,000,000" in reason


def test_a_small_photo_is_refused() -> None:
    reason = refusal(encode(GRADIENT[:40]))
    assert "is 96 x 40 pixels; expected a shorter side of at least 64" in reason


@pytest.mark.parametrize("size", [(20_000, 64), (64, 20_000), (577, 72)])
def test_a_strip_is_refused(size: tuple[int, int]) -> None:
    reason = refusal(encode(Image.new("L", size)))
    assert f"is {size[0]} x {size[1]} pixels; expected a longer side of at most 8 times" in reason
    assert decode_photo(encode(Image.new("L", (576, 72))), SETTINGS).pixels.shape == (64, 512, 3)


@pytest.mark.parametrize(
    ("kind", "name"), [("GIF", "GIF"), ("TIFF", "TIFF"), ("BMP", "BMP"), ("AVIF", "HEIC, AVIF")]
)
def test_another_format_is_refused_by_name_however_many_pictures_it_holds(
    kind: str, name: str
) -> None:
    picture = Image.fromarray(GRADIENT)
    assert f"is a {name}" in refusal(encode(picture, kind))
    if kind != "BMP":
        several = encode(picture, kind, save_all=True, append_images=[Image.new("RGB", (96, 80))])
        assert f"is a {name}" in refusal(several)


def test_every_truncation_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encode(noise, kind)
        for share in (0.02, 0.3, 0.7, 0.95):
            reason = refusal(data[: int(len(data) * share)])
            assert "copy" in reason


def test_large_photos_are_decoded_to_the_end_before_they_are_believed() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    data = encode(noise, "JPEG")
    small = CatalogSettings(working_side_px=64)
    assert decode_photo(data, small).pixels.shape == (48, 64, 3)
    assert "truncated" in refusal(data[: int(len(data) * 0.9)], small)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damage_anywhere_gives_a_photo_or_a_reason_and_nothing_else(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    whole = encode(GRADIENT, kind, exif=exif, icc_profile=srgb)
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(400):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        try:
            decode_photo(bytes(data), SETTINGS)
            outcomes.add("photo")
        except RefusedPhotoError:
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"to do: take photos of the mug\n", "is a text file"),
        ("あとで写真を撮る\n".encode() * 60, "is a text file"),
        (b"GIF89a" + bytes(60), "is a GIF"),
        (b"II*\0" + bytes(60), "is a TIFF"),
        (b"%PDF-1.7" + bytes(60), "is a PDF"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "is a HEIC"),
        (b"<html><body>404</body></html>", "is a web page"),
        (bytes(range(128, 256)), "is not a readable JPEG, PNG or WebP"),
        (b"\xff\xd8\xff", "is damaged or truncated"),
    ],
)
def test_what_is_no_photo_is_called_by_its_name(data: bytes, reason: str) -> None:
    with pytest.raises(RefusedPhotoError, match=reason):
        decode_photo(data, SETTINGS)


def test_an_invisible_picture_is_refused() -> None:
    full = np.dstack([GRADIENT, np.zeros((80, 96), np.uint8)])
    assert "entirely transparent" in refusal(encode(full))


def test_of_an_animation_the_first_frame_counts() -> None:
    second = Image.new("RGB", (96, 80))
    for kind in ("PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encode(GRADIENT, kind, save_all=True, append_images=[second], **options)
        assert np.array_equal(decode_photo(data, SETTINGS).pixels, GRADIENT)
