"""Training views of a photo set: framed photos, and cut-outs placed in new scenes.

Four to thirty photos bind a product to the rooms it was photographed in, and to
one size in the middle of the frame. Cutting the product out and placing it on
scenes that the base itself rendered breaks both bonds, and shows the product at
the size and place that a multi-product scene will ask for (compare
Cut-Mix-Unmix, SVDiff, arXiv:2303.11305, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from catalog_pipeline.learning.buckets import Size, nearest_bucket
from catalog_pipeline.records import Cutout, Photo, Pixels

Weights = npt.NDArray[np.float32]
PHOTO_TEMPLATES = (
    "a photo of a {concept}",
    "a picture of a {concept}",
    "a product shot of a {concept}",
    "a catalog image of a {concept}",
)
_BACKGROUND_WEIGHT = 0.15
"""Loss weight outside the product in a framed photo: its room is not the product."""
_ENOUGH_MASKS = 2
"""Photos with a mask from which on those without one give no views."""
_SCENE_WEIGHT = 0.2
"""Loss weight outside the product in a new scene: the base rendered it, so knows it."""


@dataclass(frozen=True)
class Backdrop:
    """A scene without products: pixels ``(side, side, 3)`` and the phrase that names it."""

    pixels: Pixels
    phrase: str


@dataclass(frozen=True)
class View:
    """One training picture.

    Attributes:
        pixels: ``(height, width, 3)``.
        instance_prompt: holds ``{concept}`` where the product's identifier goes.
        weight: ``(height, width)`` loss weight of each pixel.
        region: ``(height, width)`` in [0, 1]; where the concept's slot acts.
        backdrop_prompt: what the rest of the picture reads, or ``None`` when
            the region is the whole image.
    """

    pixels: Pixels
    instance_prompt: str
    weight: Weights
    region: Weights
    backdrop_prompt: str | None


def cut_out(photo: Photo) -> Cutout | None:
    """The product of ``photo``, or ``None`` when its mask is missing or empty."""
    if photo.mask is None:
        return None
    box = mask_box(photo.mask)
    if box is None:
        return None
    left, top, right, bottom = box
    rgba = np.dstack([photo.pixels, photo.mask])[top:bottom, left:right]
    return Cutout(np.ascontiguousarray(rgba))


def mask_box(mask: npt.NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """``(left, top, right, bottom)`` of the pixels above one half, ``None`` when there are none."""
    rows, columns = np.flatnonzero((mask > 127).any(1)), np.flatnonzero((mask > 127).any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def framed_photo(photo: Photo, size: Size, rng: np.random.Generator) -> View:
    """A random crop, as oblong as ``size``, with the product inside where the photo allows it."""
    height, width = photo.pixels.shape[:2]
    tallest = max(1, min(height, width * size[1] // size[0]))
    box = mask_box(photo.mask) if photo.mask is not None else None
    left, top, right, bottom = box or (0, 0, width, height)
    needed = min(tallest, int(1.08 * max((right - left) * size[1] / size[0], bottom - top)))
    tall = int(rng.integers(max(needed, int(0.6 * tallest)), tallest + 1))
    wide = max(1, tall * size[0] // size[1])
    x = _place(left, right, width, wide, rng)
    y = _place(top, bottom, height, tall, rng)
    pixels = _resize(photo.pixels[y : y + tall, x : x + wide], size)
    weight = np.ones(pixels.shape[:2], np.float32)
    if box is not None and photo.mask is not None:
        inside = _resize(photo.mask[y : y + tall, x : x + wide], size) / np.float32(255)
        weight = _BACKGROUND_WEIGHT + (1 - _BACKGROUND_WEIGHT) * inside.astype(np.float32)
    return View(pixels, str(rng.choice(PHOTO_TEMPLATES)), weight, np.ones_like(weight), None)


def _place(low: int, high: int, length: int, size: int, rng: np.random.Generator) -> int:
    """Start of a window of ``size`` in ``[0, length)`` that covers ``[low, high)`` if it can."""
    first, last = max(0, high - size), min(low, length - size)
    if first > last:
        first = last = min(max(0, (low + high - size) // 2), length - size)
    return int(rng.integers(first, last + 1))


def placed_cutout(
    cutout: Cutout, backdrop: Backdrop, side_px: int, rng: np.random.Generator
) -> View:
    """The product alone in a new scene, at the size a single-product scene gives it."""
    pixels, opacity = paste(
        cutout,
        backdrop.pixels,
        height_share=rng.uniform(0.5, 0.8),
        centre=rng.uniform(0.42, 0.58),
        bottom=rng.uniform(0.84, 0.96),
    )
    prompt = f"{rng.choice(PHOTO_TEMPLATES)} {backdrop.phrase}"
    weight = _SCENE_WEIGHT + (1 - _SCENE_WEIGHT) * opacity
    return View(pixels, prompt, weight, np.ones((side_px, side_px), np.float32), None)


def half_scene(cutout: Cutout, backdrop: Backdrop, side_px: int, rng: np.random.Generator) -> View:
    """The product in one half of a scene; its slot acts there, the base alone elsewhere."""
    right = bool(rng.integers(2))
    pixels, _ = paste(
        cutout,
        backdrop.pixels,
        height_share=rng.uniform(0.38, 0.55),
        centre=(0.74 if right else 0.26) + rng.uniform(-0.02, 0.02),
        bottom=rng.uniform(0.72, 0.94),
        width_limit=0.42,
    )
    region = np.zeros((side_px, side_px), np.float32)
    region[:, side_px // 2 :] = 1
    if not right:
        region = np.ascontiguousarray(region[:, ::-1])
    prompt = f"{rng.choice(PHOTO_TEMPLATES)} {backdrop.phrase}"
    return View(pixels, prompt, region, region, f"an empty scene {backdrop.phrase}")


def paste(
    cutout: Cutout,
    backdrop: Pixels,
    *,
    height_share: float,
    centre: float,
    bottom: float,
    width_limit: float = 0.94,
) -> tuple[Pixels, Weights]:
    """``cutout`` on a copy of ``backdrop``; all placements are shares of the side.

    Returns the picture and the product's opacity ``(side, side)`` in [0, 1].
    """
    side = backdrop.shape[0]
    height, width = cutout.rgba.shape[:2]
    scale = min(height_share * side / height, width_limit * side / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sprite = Image.fromarray(cutout.rgba, "RGBA").resize(size, Image.Resampling.LANCZOS)
    left = round(centre * side - size[0] / 2)
    top = round(bottom * side - size[1])
    canvas = Image.fromarray(backdrop, "RGB").convert("RGBA")
    layer = Image.new("RGBA", canvas.size)
    layer.paste(sprite, (left, max(top, 0)))
    shown = Image.alpha_composite(canvas, layer).convert("RGB")
    return np.asarray(shown), np.asarray(layer)[..., 3].astype(np.float32) / np.float32(255)


def _resize(pixels: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def make_views(
    photos: Sequence[Photo],
    backdrops: Sequence[Backdrop],
    *,
    side_px: int,
    views_per_photo: int,
    rng: np.random.Generator,
    buckets: Sequence[Size] = (),
) -> list[View]:
    """``views_per_photo`` views of every photo: two fifths framed, the rest in new scenes.

    A photo without a usable mask gives framed views only, and none where at least two
    others have one: it would teach the surroundings, or the hand, as much as the product.

    New scenes are squares of ``side_px``, as their backdrops are. Framed views are of the one
    of ``buckets`` that is nearest to their photo's shape, and squares where there are none.
    """
    views: list[View] = []
    masked = [photo for photo in photos if photo.mask is not None]
    for photo in masked if len(masked) >= _ENOUGH_MASKS else photos:
        height, width = photo.pixels.shape[:2]
        size = nearest_bucket(width, height, buckets or [(side_px, side_px)])
        cutout = cut_out(photo) if backdrops else None
        for index in range(views_per_photo):
            if cutout is None or index % 5 < 2:
                views.append(framed_photo(photo, size, rng))
                continue
            backdrop = backdrops[int(rng.integers(len(backdrops)))]
            place = placed_cutout if index % 5 < 4 else half_scene
            views.append(place(cutout, backdrop, side_px, rng))
    return views
