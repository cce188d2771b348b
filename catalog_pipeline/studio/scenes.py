"""Scenes of one to three products whose truth is known to the pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.records import Pixels
from catalog_pipeline.studio.sprites import Sprite

Masks = npt.NDArray[np.uint8]
"""``(objects, height, width)``, 0..255: how much of each pixel shows each object."""

SHADOW_STRENGTH = 0.45

_CENTERS: dict[int, tuple[float, ...]] = {0: (), 1: (0.5,), 2: (0.27, 0.73), 3: (0.18, 0.5, 0.82)}


@dataclass(frozen=True)
class Placement:
    """Where a sprite's square stands, in fractions of the scene's side.

    ``size`` is the square's side, ``center_x`` its middle and ``base_y`` its lower
    edge, measured from the left and from the top.
    """

    size: float
    center_x: float
    base_y: float
    flipped: bool = False


def compose(
    background: Pixels,
    sprites: Sequence[Sprite],
    placements: Sequence[Placement],
    *,
    shadow_strength: float = SHADOW_STRENGTH,
) -> tuple[Pixels, Masks]:
    """Paste ``sprites`` onto a square ``background``, later ones in front.

    Each sprite first darkens what lies under its base: a contact shadow of
    ``shadow_strength`` 0..1. With 0, every pixel outside the masks is the
    background's own.

    Returns:
        pixels as large as ``background``, and one mask per sprite.

    Raises:
        GenerationError: the background is not square, or the counts differ.
    """
    height, width = background.shape[:2]
    if height != width:
        raise GenerationError(f"the background is {width} x {height}; expected a square")
    if len(sprites) != len(placements):
        raise GenerationError(
            f"{len(sprites)} sprites but {len(placements)} placements; expected one each"
        )
    canvas = background.astype(np.float64)
    visible = np.zeros((len(sprites), height, width))
    for index, (sprite, placement) in enumerate(zip(sprites, placements, strict=True)):
        canvas *= 1 - shadow_strength * _contact_shadow(placement, width)[..., None]
        color, alpha = _placed(sprite, placement, width)
        canvas = canvas * (1 - alpha[..., None]) + color * alpha[..., None]
        visible *= 1 - alpha
        visible[index] = alpha
    return _rounded(canvas), _rounded(visible * 255)


def _rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    return (np.clip(values, 0, 255) + 0.5).astype(np.uint8)


def _pixel_centers(side_px: int) -> npt.NDArray[np.float64]:
    return (np.arange(side_px) + 0.5) / side_px


def _contact_shadow(placement: Placement, side_px: int) -> npt.NDArray[np.float64]:
    """A flat blot under the base, ``(side_px, side_px)`` 0..1."""
    centers = _pixel_centers(side_px)
    across = (centers - placement.center_x) / (placement.size * 0.42)
    down = (centers - placement.base_y + 0.01) / (placement.size * 0.09)
    return np.asarray(np.exp(-(across[None] ** 2 + down[:, None] ** 2)))


def _placed(
    sprite: Sprite, placement: Placement, side_px: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The sprite in scene coordinates: colour ``(side, side, 3)`` 0..255, alpha 0..1.

    Bilinear in premultiplied colour, so that no fringe of the cut-out's
    surroundings shows. Alpha keeps to multiples of 1/255: a mask stores it exactly.
    """
    straight = sprite.rgba.astype(np.float64) / 255
    premultiplied = straight * np.where([True, True, True, False], straight[..., 3:], 1.0)
    centers = _pixel_centers(side_px)
    u = (centers - placement.center_x) / placement.size + 0.5
    v = (centers - placement.base_y) / placement.size + 1
    columns = _interpolation(1 - u if placement.flipped else u, sprite.rgba.shape[1])
    rows = _interpolation(v, sprite.rgba.shape[0])
    sampled = np.einsum("yr,rcd,xc->yxd", rows, premultiplied, columns, optimize=True)
    alpha = np.round(sampled[..., 3] * 255) / 255
    color = sampled[..., :3] / np.maximum(sampled[..., 3:], 1 / 510) * 255
    return color, alpha


def _interpolation(at: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Bilinear weights ``(positions, count)`` of samples at ``at`` (0..1); zero outside."""
    distance = np.abs(at[:, None] * count - 0.5 - np.arange(count)[None])
    return np.asarray(np.clip(1 - distance, 0, None))


def draw_placements(rng: Generator, count: int) -> tuple[Placement, ...]:
    """A random arrangement of ``count`` products side by side, from left to right.

    Raises:
        GenerationError: more than three products.
    """
    if count not in _CENTERS:
        raise GenerationError(f"{count} products in a scene; expected 0 to {max(_CENTERS)}")
    if count == 1:
        size, x, base = rng.uniform(0.5, 0.86), rng.uniform(0.42, 0.58), rng.uniform(0.82, 0.97)
        return (Placement(size, x, base, bool(rng.random() < 0.5)),)
    smallest, largest = (0.36, 0.5) if count == 2 else (0.26, 0.34)
    floor = rng.uniform(0.74, 0.93) if count else 0.0
    placements = []
    for center in _CENTERS[count]:
        size = rng.uniform(smallest, largest)
        x, base = center + rng.uniform(-0.03, 0.03), floor + rng.uniform(-0.03, 0.03)
        placements.append(Placement(size, x, base, bool(rng.random() < 0.5)))
    return tuple(placements)
