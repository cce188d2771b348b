"""Bad photos of a good product: what gets into its folder, made from its own photos by a seed.

Every kind is a function of the photo that it spoils, a source of chance, and what another
product's photo lends: a hand, a neighbour, or the whole mis-filed picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy.ndimage import binary_opening, convolve1d, gaussian_filter, label

from catalog_pipeline.records import Pixels

HANDS = (
    "grocery_god_morgon_orange_red_grapefruit_juice/02.jpg",
    "grocery_god_morgon_orange_red_grapefruit_juice/06.jpg",
    "grocery_oatly_natural_oatghurt/07.jpg",
    "grocery_tropicana_mandarin_morning/05.jpg",
    "grocery_yoggi_strawberry_yoghurt/01.jpg",
    "grocery_yoggi_strawberry_yoghurt/05.jpg",
    "grocery_yoggi_strawberry_yoghurt/06.jpg",
)
"""Photos of which a hand and its arm can be cut out by colour, by eye."""

Mask = npt.NDArray[np.uint8]
"""Opacity, ``(height, width)``, 0..255."""


@dataclass(frozen=True)
class View:
    """A clean photo and its product in it."""

    pixels: Pixels
    mask: Mask

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the product."""
        rows, columns = (np.flatnonzero((self.mask >= 128).any(axis)) for axis in (1, 0))
        if not len(rows):
            return 0, 0, self.mask.shape[1], self.mask.shape[0]
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class Lent:
    """What other products lend: a whole photo, and a photo in which a hand reaches in."""

    other: View
    hand: View


Chance = np.random.Generator
Spoil = Callable[[View, Chance, Lent], Pixels | None]
"""``None`` where this photo cannot be spoilt so."""


def saved_again(view: View, chance: Chance, lent: Lent) -> Pixels:
    """The same picture, smaller and as a JPEG of lower quality."""
    scale = chance.uniform(0.5, 0.9)
    image = Image.fromarray(view.pixels)
    size = (round(image.width * scale), round(image.height * scale))
    return _as_jpeg(image.resize(size, Image.Resampling.LANCZOS), int(chance.integers(55, 90)))


def cropped(view: View, chance: Chance, lent: Lent) -> Pixels:
    """The same picture with 2 % of its width and height cut away, and saved again."""
    image = Image.fromarray(view.pixels)
    wide, high = round(0.02 * image.width), round(0.02 * image.height)
    left, top = int(chance.integers(0, wide + 1)), int(chance.integers(0, high + 1))
    box = (left, top, image.width - wide + left, image.height - high + top)
    return _as_jpeg(image.crop(box), 85)


def brightened(view: View, chance: Chance, lent: Lent) -> Pixels:
    """The same picture, corrected by an editor: a little lighter or darker."""
    gain = chance.choice([0.88, 1.12])
    return _clipped(view.pixels * gain)


def out_of_focus(view: View, chance: Chance, lent: Lent) -> Pixels:
    """A Gaussian of 1.2 to 2.5 % of the longer side."""
    radius = chance.uniform(0.012, 0.025) * max(view.pixels.shape[:2])
    return np.array(Image.fromarray(view.pixels).filter(ImageFilter.GaussianBlur(radius)))


def shaken(view: View, chance: Chance, lent: Lent) -> Pixels:
    """Motion along one side, 5 to 9 % of the longer one."""
    length = round(chance.uniform(0.05, 0.09) * max(view.pixels.shape[:2]))
    axis = int(chance.integers(0, 2))
    kernel = np.full(length, 1 / length)
    return _clipped(convolve1d(view.pixels.astype(np.float64), kernel, axis=axis, mode="nearest"))


def too_dark(view: View, chance: Chance, lent: Lent) -> Pixels:
    """Three to four stops too little light."""
    return _exposed(view.pixels, -chance.uniform(3.5, 4.5))


def too_bright(view: View, chance: Chance, lent: Lent) -> Pixels:
    """Three to four stops too much."""
    return _exposed(view.pixels, chance.uniform(3.0, 4.0))


def flat(view: View, chance: Chance, lent: Lent) -> Pixels:
    """Fog on the lens: a tenth of the contrast is left."""
    return _clipped(chance.uniform(110, 170) + 0.08 * (view.pixels - 128.0))


def half_out(view: View, chance: Chance, lent: Lent) -> Pixels | None:
    """Framed so that 45 to 60 % of the product lie outside."""
    left, top, right, bottom = view.box
    high, wide = view.mask.shape
    share = chance.uniform(0.4, 0.55)
    cut_x, cut_y = round(left + share * (right - left)), round(top + share * (bottom - top))
    frames = [(0, 0, cut_x, high), (wide - (wide - cut_x), 0, wide, high),
              (0, 0, wide, cut_y), (0, cut_y, wide, high)]  # fmt: skip
    frames = [f for f in frames if min(f[2] - f[0], f[3] - f[1]) >= 0.25 * min(high, wide)]
    if not frames:
        return None
    return np.array(Image.fromarray(view.pixels).crop(frames[int(chance.integers(len(frames)))]))


def without_product(view: View, chance: Chance, lent: Lent) -> Pixels | None:
    """Only the room: the largest part of the photo beside the product."""
    left, top, right, bottom = view.box
    high, wide = view.mask.shape
    margin = round(0.02 * max(high, wide))
    frames = [(0, 0, left - margin, high), (right + margin, 0, wide, high),
              (0, 0, wide, top - margin), (0, bottom + margin, wide, high)]  # fmt: skip
    frame = max(frames, key=lambda f: (f[2] - f[0]) * (f[3] - f[1]))
    if min(frame[2] - frame[0], frame[3] - frame[1]) < 100:
        return None
    return np.array(Image.fromarray(view.pixels).crop(frame))


def misfiled(view: View, chance: Chance, lent: Lent) -> Pixels:
    """A photo of another product."""
    return lent.other.pixels


def neighbour(view: View, chance: Chance, lent: Lent) -> Pixels | None:
    """Another product stands beside it, as high as it is, on the side that has more room."""
    left, top, right, bottom = view.box
    wide = view.mask.shape[1]
    gap = round(0.04 * wide)
    room = max(left, wide - right) - gap
    one, two, three, four = lent.other.box
    scale = min((bottom - top) / (four - two), 0.95 * room / (three - one))
    size = (round(scale * (three - one)), round(scale * (four - two)))
    if size[1] < 0.5 * (bottom - top):
        return None
    across = left - gap - size[0] if left > wide - right else right + gap
    crop = (one, two, three, four)
    return _pasted(view.pixels, lent.other, crop, size, (max(0, across), bottom - size[1]))


def held(view: View, chance: Chance, lent: Lent) -> Pixels | None:
    """A hand and its arm reach in from the edge and cover a part of the product."""
    arm = _arm(lent.hand.pixels)
    if arm is None:
        return None
    rows, columns = np.flatnonzero(arm.any(1)), np.flatnonzero(arm.any(0))
    crop = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    left, top, right, bottom = view.box
    high, wide = view.mask.shape
    # From the lower left corner of the photo to the middle of the product, as the arm lies.
    size = (round(left + 0.6 * (right - left)), round(high - top - 0.35 * (bottom - top)))
    if min(size) < 0.2 * min(high, wide):
        return None
    hand = View(lent.hand.pixels, (255 * gaussian_filter(arm.astype(float), 0.7)).astype(np.uint8))
    return _pasted(view.pixels, hand, crop, size, (0, high - size[1]))


def framed_tightly(view: View, chance: Chance, lent: Lent) -> Pixels:
    """Harmless: cut to the product with a hair of room around it."""
    left, top, right, bottom = view.box
    high, wide = view.mask.shape
    spare = round(0.03 * max(right - left, bottom - top))
    box = (max(0, left - spare), max(0, top - spare), min(wide, right + spare),
           min(high, bottom + spare))  # fmt: skip
    return np.array(Image.fromarray(view.pixels).crop(box))


def on_white(view: View, chance: Chance, lent: Lent) -> Pixels:
    """Harmless: the product cut out and laid on white, as pack shots are."""
    opacity = view.mask[..., None] / 255.0
    return _clipped(view.pixels * opacity + 255 * (1 - opacity))


KINDS: dict[str, tuple[str, Spoil]] = {
    "copy": ("near_duplicate", lambda view, chance, lent: view.pixels),
    "saved again": ("near_duplicate", saved_again),
    "cropped by 2 %": ("near_duplicate", cropped),
    "brightened": ("near_duplicate", brightened),
    "out of focus": ("blurred", out_of_focus),
    "shaken": ("blurred", shaken),
    "too dark": ("exposure", too_dark),
    "too bright": ("exposure", too_bright),
    "flat": ("exposure", flat),
    "half out": ("cut_off", half_out),
    "without the product": ("not_found", without_product),
    "another product": ("wrong_product", misfiled),
    "a neighbour": ("several", neighbour),
    "a hand": ("hand", held),
}
"""What is done to a photo -> the fault that should be found, and how it is done."""

HARMLESS: dict[str, Spoil] = {"framed tightly": framed_tightly, "on white": on_white}
"""What takes the place of a photo and is to be kept."""


def _pasted(
    pixels: Pixels,
    what: View,
    crop: tuple[int, int, int, int],
    size: tuple[int, int],
    place: tuple[int, int],
) -> Pixels:
    page = Image.fromarray(pixels)
    piece = Image.fromarray(what.pixels).crop(crop).resize(size, Image.Resampling.LANCZOS)
    opacity = Image.fromarray(what.mask).crop(crop).resize(size, Image.Resampling.LANCZOS)
    page.paste(piece, place, opacity)
    return np.array(page)


def _arm(pixels: Pixels) -> npt.NDArray[np.bool_] | None:
    """The largest piece of skin, ``(height, width)``; for the photos of :data:`HANDS`."""
    luma, blue, red = np.moveaxis(np.asarray(Image.fromarray(pixels).convert("YCbCr")), -1, 0)
    skin = (luma > 70) & (blue >= 95) & (blue <= 123) & (red >= 140) & (red <= 165)
    pieces, count = label(binary_opening(skin, iterations=2))
    if not count:
        return None
    return np.asarray(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])))


def _exposed(pixels: Pixels, stops: float) -> Pixels:
    linear = (pixels / 255.0) ** 2.2 * 2.0**stops
    return _clipped(255 * np.clip(linear, 0, 1) ** (1 / 2.2))


def _as_jpeg(image: Image.Image, quality: int) -> Pixels:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as again:
        return np.array(again.convert("RGB"))


def _clipped(values: npt.NDArray[np.float64]) -> Pixels:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
