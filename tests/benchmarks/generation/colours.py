"""Has a thing of a base-only picture its own colour, or its neighbour's?

The picture is cut where the salient mask is thinnest near its middle. Of the two named
nouns, the one that each part resembles (features of studio scenes) stands there; its colour is
the named one that more of its pixels have, by hue. Studio scenes whose truth is known say how
often that is right (:func:`calibrate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.records import Features, Pixels
from catalog_pipeline.studio.backgrounds import paint_background
from catalog_pipeline.studio.camera import View
from catalog_pipeline.studio.families import build_parts
from catalog_pipeline.studio.palette import PALETTE
from catalog_pipeline.studio.product import Product
from catalog_pipeline.studio.render import render_product
from catalog_pipeline.studio.scenes import compose, draw_placements
from catalog_pipeline.studio.sprites import Sprite, SpriteLabel, stand_in_square
from tests.benchmarks.generation.scenes import SWAP_COLORS, SWAP_NOUNS, SWAP_TEXTS, Scene

EXAMPLES = 12
"""Studio scenes of each noun that the recogniser knows."""
SPRITE_PX = 72
"""No product of a pair is larger in a scene."""
HUE_REACH, MIN_SATURATION, MIN_VALUE = 25.0, 0.35, 0.15
MIN_COLOR_SHARE, MIN_AREA = 0.10, 0.02
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Half:
    """One side of a picture: its pixels and the product's mask in them."""

    pixels: Pixels
    mask: Mask


@dataclass(frozen=True)
class Look:
    """What is seen of a picture: its two sides and their features, ``(2, width)``."""

    halves: tuple[Half, Half]
    features: Features


class ColourJudge:
    """Finds, swaps and misses colours in pictures of two things."""

    def __init__(self, encoder: FeatureEncoder, masker: ProductMasker, examples: int = EXAMPLES):
        self._encoder, self._masker = encoder, masker
        self._known = self._learn(examples)

    def judge(self, pictures: Sequence[Pixels], scenes: Sequence[Scene]) -> list[dict[str, Any]]:
        """``found``: thing -> found, swapped or missing; ``passed``: both found."""
        return [
            self.decide(self.look(picture), scene.things)
            for picture, scene in zip(pictures, scenes, strict=True)
        ]

    def look(self, picture: Pixels) -> Look:
        """What is seen, whatever the words."""
        halves = self.cut(picture)
        return Look(halves, self._encoder.encode([_squared(half.pixels) for half in halves]))

    def decide(self, look: Look, things: Sequence[str]) -> dict[str, Any]:
        """The verdict on two things, in the order of the words."""
        named = [thing.split(" ", 1) for thing in things]
        left = self._resemblance(look.features, [noun for _, noun in named])
        order = (0, 1) if left[0, 0] + left[1, 1] >= left[0, 1] + left[1, 0] else (1, 0)
        found = {}
        for index, thing in enumerate(things):
            own, other = named[index][0], named[1 - index][0]
            found[thing] = judge_color(look.halves[order.index(index)], own, other)
        passed = all(verdict == "found" for verdict in found.values())
        return {"found": found, "passed": passed, "count_error": 0, "order": list(order)}

    def cut(self, picture: Pixels) -> tuple[Half, Half]:
        """Left and right part of the picture, each with its mask."""
        mask = self._masker.mask(picture).mask >= 128
        width = picture.shape[1]
        first, last = round(0.35 * width), round(0.65 * width)
        columns = mask[:, first:last].sum(0) + 0.01 * np.abs(np.arange(first, last) - width / 2)
        middle = first + int(np.argmin(columns))
        parts = ((slice(0, middle)), (slice(middle, width)))
        left, right = (self._half(picture[:, part], mask[:, part]) for part in parts)
        return left, right

    def _half(self, pixels: Pixels, mask: Mask) -> Half:
        # The network may look at one of two things only; alone, the other is salient too.
        if mask.mean() < 2 * MIN_AREA:
            mask = self._masker.mask(pixels).mask >= 128
        return Half(pixels, mask)

    def _resemblance(self, features: Features, nouns: Sequence[str]) -> Features:
        """``(parts, nouns)``: mean cosine to the five nearest examples."""
        columns = [np.sort(features @ self._known[noun].T, 1)[:, -5:].mean(1) for noun in nouns]
        return np.stack(columns, 1)

    def _learn(self, examples: int) -> dict[str, Features]:
        rng = np.random.default_rng(0)
        parts: dict[str, list[Pixels]] = {noun: [] for noun in SWAP_NOUNS}
        while min(map(len, parts.values())) < examples:
            drawn = [str(noun) for noun in rng.permutation(SWAP_NOUNS)]  # each on both sides
            fewest = sorted(drawn, key=lambda noun: len(parts[noun]))[:2]
            pixels, things = studio_scene(rng, fewest)
            for half, thing in zip(self.cut(pixels), things, strict=True):
                parts[thing.split(" ", 1)[1]].append(_squared(half.pixels))
        return {noun: self._encoder.encode(seen) for noun, seen in parts.items()}


def judge_color(half: Half, own: str, other: str) -> str:
    """``found``, ``swapped`` or ``missing``: which of two colours the masked pixels have."""
    if half.mask.mean() < MIN_AREA:
        return "missing"
    shares = {color: _share(half, color) for color in (own, other)}
    if max(shares.values()) < MIN_COLOR_SHARE:
        return "missing"
    return "found" if shares[own] >= shares[other] else "swapped"


def _share(half: Half, color: str) -> float:
    """Of the masked pixels, how many have the hue of ``color``."""
    pixels = _hsv(half.pixels[half.mask][None])[0]
    hue = _hsv(np.array([[PALETTE[color]]], np.uint8))[0, 0, 0]
    away = np.abs((pixels[:, 0] - hue + 180) % 360 - 180)
    vivid = (pixels[:, 1] >= MIN_SATURATION) & (pixels[:, 2] >= MIN_VALUE)
    return float((vivid & (away <= HUE_REACH)).mean())


def _hsv(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Hue in degrees, saturation and value in [0, 1]."""
    hsv = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("HSV"), np.float64)
    return hsv / 255 * np.array([360.0, 1.0, 1.0])


def _squared(part: Pixels) -> Pixels:
    """The part on a square of its own border's mean colour: nothing is stretched."""
    height, width = part.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), part[:, [0, -1]].mean((0, 1)), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = part
    return square


def _widened(pixels: Pixels) -> Pixels:
    """Half as wide again: the outer columns of the ground drawn out to both sides."""
    side = pixels.shape[1] // 4
    return np.pad(pixels, ((0, 0), (side, side), (0, 0)), mode="edge")


def studio_scene(
    rng: np.random.Generator, nouns: Sequence[str] = ()
) -> tuple[Pixels, tuple[str, str]]:
    """A scene of two plain things and its truth, left to right, such as ``red mug``."""
    pixels, things, _ = studio_scene_and_masks(rng, nouns)
    return pixels, things


def studio_scene_and_masks(
    rng: np.random.Generator, nouns: Sequence[str] = ()
) -> tuple[Pixels, tuple[str, str], Pixels]:
    """The same, and the mask of each thing, ``(2, height, width)``."""
    chosen = list(nouns) or [str(noun) for noun in rng.choice(SWAP_NOUNS, 2, replace=False)]
    colors = [str(color) for color in rng.choice(SWAP_COLORS, 2, replace=False)]
    sprites = []
    for noun, color in zip(chosen, colors, strict=True):
        second = PALETTE[str(rng.choice(list(PALETTE)))]
        product = Product(build_parts(noun, rng, PALETTE[color], second), "plain", second)
        view = View(rng.uniform(-1.2, 1.2), rng.uniform(0.05, 0.7), rng.uniform(-1.2, 1.2), 1.32)
        rgba = stand_in_square(render_product(product, view, SPRITE_PX), SPRITE_PX)
        sprites.append(Sprite(rgba, SpriteLabel(noun, color)))
    ground = paint_background(str(rng.choice(SWAP_TEXTS)), int(rng.integers(2**31)))
    pixels, masks = compose(ground, sprites, draw_placements(rng, 2))
    left, right = (f"{color} {noun}" for color, noun in zip(colors, chosen, strict=True))
    return pixels, (left, right), masks


def calibrate(judge: ColourJudge, scenes: int = 100, seed: int = 1) -> dict[str, float]:
    """Accuracy on studio scenes, each judged with its own words and with the colours exchanged.

    The scenes are as wide as the judged pictures of two things are.

    ``things``: things judged rightly; ``pictures``: pictures in which both are, with either
    wording; ``false_swaps``: swaps seen in true pictures; ``order``: nouns on the right side.
    """
    rng = np.random.default_rng(seed)
    right: dict[str, list[float]] = {k: [] for k in ("things", "pictures", "false_swaps", "order")}
    for number in range(scenes):
        pixels, things = studio_scene(rng)
        (first, one), (second, other) = (thing.split(" ", 1) for thing in things)
        look = judge.look(_widened(pixels))
        told = {"found": things, "swapped": (f"{second} {one}", f"{first} {other}")}
        for truth, words in told.items():
            words = words if number % 2 else words[::-1]
            said = judge.decide(look, words)
            hits = [verdict == truth for verdict in said["found"].values()]
            right["things"] += hits
            right["pictures"].append(all(hits))
            right["order"].append(said["order"] == ([0, 1] if number % 2 else [1, 0]))
            if truth == "found":
                right["false_swaps"].append("swapped" in said["found"].values())
    return {"scenes": scenes, **{name: float(np.mean(seen)) for name, seen in right.items()}}
