"""Products into a scene and back out of it: placed, with shadow and light. Needs no model.

Pictures here are ``(height, width, 3)`` float32 in 0..1, opacities ``(height, width)`` in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from catalog_pipeline.records import Cutout, Pixels, Region

Floats = npt.NDArray[np.float32]

CONTACT_OPACITY, CAST_OPACITY = 0.6, 0.42
"""Darkness of the shadow under a product: where it touches the ground, and around that."""
_CONTACT_DEPTH, _CAST_DEPTH = 0.02, 0.075
"""Reach of both above and below the line of contact, over the product's height."""
_AIR = 0.25
"""Height above the ground, over that of the product, from which a part casts no shadow."""
LIGHT_RANGE, CAST_RANGE = (0.92, 1.08), (0.97, 1.03)
"""Most that the light of a scene changes the photo's own pixels: within it a print keeps its
colours."""
SHADE_RANGE = (0.7, 1.0)
"""Most that the redrawn picture darkens the empty scene, beyond the contact shadow."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A cut-out at its place in a picture: ``color`` where ``opacity`` is not 0, and its box.

    ``box`` is left, top, right, bottom in pixels, the latter two exclusive; it may leave
    the picture.
    """

    color: Floats
    opacity: Floats
    box: tuple[int, int, int, int]


def box_px(box: Region, width: int, height: int) -> tuple[int, int, int, int]:
    """``box`` in pixels of a picture, at least one each way."""
    left, top = round(box.left * width), round(box.top * height)
    right, bottom = round(box.right * width), round(box.bottom * height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def place(cutout: Cutout, box: Region, width: int, height: int) -> Layer:
    """``cutout``, stretched to ``box`` of a picture of ``width`` by ``height`` pixels."""
    left, top, right, bottom = box_px(box, width, height)
    rgba = cutout.rgba.astype(np.float32) / np.float32(255)
    opacity = rgba[..., 3]
    # Colours weighed by opacity, or what was around the product would bleed into its edge.
    premultiplied = [rgba[..., channel] * opacity for channel in range(3)]
    size = (right - left, bottom - top)
    red, green, blue, alpha = (_resize(plane, size) for plane in (*premultiplied, opacity))
    sprite = np.stack([red, green, blue], -1) / np.maximum(alpha, 1e-4)[..., None]
    color = np.zeros((height, width, 3), np.float32)
    shown = np.zeros((height, width), np.float32)
    y, x = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    inner = slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
    color[y, x] = sprite[inner].clip(0, 1)
    shown[y, x] = alpha[inner].clip(0, 1)
    return Layer(color, shown, (left, top, right, bottom))


def visible(layers: Sequence[Layer]) -> list[Floats]:
    """The opacity of each layer that no later one hides."""
    shown: list[Floats] = []
    free: Floats = np.ones_like(layers[0].opacity) if layers else np.zeros(0, np.float32)
    for layer in reversed(layers):
        shown.append(layer.opacity * free)
        free = free * (1 - layer.opacity)
    return shown[::-1]


def ground_shadow(layers: Sequence[Layer]) -> Floats:
    """What the ground keeps of its light under the products, ``(height, width)`` in (0, 1].

    A band along the line on which a product touches the ground, softened twice: narrow and
    dark where it touches, wide and faint around. The plain drop shadow of product
    photography; it knows no direction of light.
    """
    kept = np.ones_like(layers[0].opacity)
    for layer in layers:
        left, top, right, bottom = layer.box
        tall, wide = bottom - top, right - left
        contact = gaussian_filter(
            _band(layer, _CONTACT_DEPTH), (max(0.4, 0.007 * tall), max(0.5, 0.012 * wide))
        )
        cast = gaussian_filter(
            _band(layer, _CAST_DEPTH), (max(0.8, 0.03 * tall), max(1.0, 0.06 * wide))
        )
        kept = kept * (1 - CONTACT_OPACITY * contact) * (1 - CAST_OPACITY * cast)
    return kept.astype(np.float32)


def _band(layer: Layer, depth: float) -> Floats:
    """A band along the lower outline of a product, ``depth`` of its height up and down.

    Parts that hang in the air have the less of it the higher they hang: a handle, a strap.
    """
    _, top, _, bottom = layer.box
    tall = bottom - top
    rows = np.arange(1, layer.opacity.shape[0] + 1, dtype=np.float32)[:, None]
    lowest = (rows * (layer.opacity > 0.5)).max(0)  # (width,): 0 where nothing stands
    air = np.where(lowest > 0, np.clip((bottom - lowest) / (_AIR * tall), 0, 1), 1)
    # The ground line of a leaning product lies between its outline and its lowest point.
    line = lowest + 0.3 * (bottom - lowest)
    reach = max(1.0, depth * tall)
    band = np.sqrt(np.maximum(0, 1 - ((rows - 1 - line) / reach) ** 2)) * (1 - air) ** 2
    return band.astype(np.float32)


def compose(scene: Floats, layers: Sequence[Layer], shadow: Floats | None = None) -> Floats:
    """``layers`` on ``scene``, the first one lowest; ``shadow`` darkens the scene alone."""
    picture = scene if shadow is None else scene * shadow[..., None]
    for layer in layers:
        opacity = layer.opacity[..., None]
        picture = picture * (1 - opacity) + layer.color * opacity
    return picture.astype(np.float32)


def light_on(drawn: Floats, given: Floats, layer: Layer) -> Floats:
    """How much lighter and warmer ``drawn`` is than ``given`` on one product, by channel.

    Lightness by place, ``blur(drawn) / blur(given)`` of the luminance over the product's
    pixels, within :data:`LIGHT_RANGE`; one colour cast for the whole product, within
    :data:`CAST_RANGE`. So the light of a scene falls on a product, and no line or colour of
    what the model made of it.

    Args:
        drawn: what the model made of ``given``.
        given: the placed photos, through the model's own autoencoder: what that changes is
            no light.
        layer: the product.
    """
    inside, sigma = layer.opacity, 0.1 * drawn.shape[0]
    weight = _blur(inside, sigma) + 1e-4
    bright, before = (
        _blur(luminance(picture) * inside, sigma) / weight + 0.05 for picture in (drawn, given)
    )
    means = [
        (picture * inside[..., None]).sum((0, 1)) / (inside.sum() + 1e-4) + 0.05
        for picture in (drawn, given)
    ]
    cast = (means[0] / luminance(means[0])) / (means[1] / luminance(means[1]))
    lightness = (bright / before).clip(*LIGHT_RANGE)
    return (lightness[..., None] * cast.clip(*CAST_RANGE)).astype(np.float32)


def shade_on(drawn: Floats, empty: Floats, layers: Sequence[Layer]) -> Floats:
    """How much darker ``drawn`` is than ``empty`` around where products stand, ``(h, w)``.

    Luminance and low frequencies alone, within :data:`SHADE_RANGE`, and near the ground
    line of a product: the shadows that the model saw, nothing of what it drew beyond them.
    """
    outside = np.prod([1 - layer.opacity for layer in layers], axis=0).astype(np.float32)
    sigma = 0.04 * drawn.shape[0]
    weight = _blur(outside, sigma) + 1e-4
    dark, bright = (
        _blur(luminance(picture) * outside, sigma) / weight + 0.05 for picture in (drawn, empty)
    )
    near = np.max([_blur(_band(layer, _CAST_DEPTH), sigma) for layer in layers], axis=0)
    near = (near / max(float(near.max()), 1e-4)).clip(0, 1)
    shade = (dark / bright).clip(*SHADE_RANGE)
    return (1 - near * (1 - shade)).astype(np.float32)


def luminance(picture: Floats) -> Floats:
    """``(..., 3)`` -> ``(...)``, ITU-R BT.601."""
    return (picture @ np.array((0.299, 0.587, 0.114), np.float32)).astype(np.float32)


def enlarge(picture: Floats, width: int, height: int) -> Floats:
    """``(h, w)`` or ``(h, w, channels)`` at ``width`` by ``height`` pixels, softly."""
    if picture.shape[:2] == (height, width):
        return picture
    if picture.ndim == 2:
        return _resize(picture, (width, height))
    planes = [_resize(picture[..., c], (width, height)) for c in range(picture.shape[-1])]
    return np.stack(planes, -1)


def to_floats(pixels: Pixels) -> Floats:
    """0..255 -> 0..1."""
    return pixels.astype(np.float32) / np.float32(255)


def to_pixels(picture: Floats) -> Pixels:
    """0..1 -> 0..255."""
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8)


def _resize(plane: Floats, size: tuple[int, int]) -> Floats:
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32), "F")
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS), np.float32)


def _blur(plane: Floats, sigma: float) -> Floats:
    return gaussian_filter(plane, sigma).astype(np.float32)
