"""Pictures whose truth is known: cut-outs of real photos and of studio products, pasted by plan.

A product's first photos are pasted, the others are its memory: no picture shows a photo
that the judge remembers. Every second picture goes through the base model's autoencoder,
so that it has the grain of a generated one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from catalog_pipeline.records import Features, Pixels, Region
from catalog_pipeline.studio.backgrounds import BACKGROUNDS, paint_background
from catalog_pipeline.studio.scenes import Placement, compose, draw_placements
from catalog_pipeline.studio.sprites import Sprite, SpriteLabel, stand_in_square

PASTED_PHOTOS = 2
"""Photos of a product that are pasted; at least as many others are needed for its memory."""
SIDE_PX = 128
"""Height of a scene, and its width with one product; each more makes it half as wide again, as
``widening`` of ``generation.yaml`` does for a night."""
BLUR_PX = 9.0

KINDS = (
    "all there",
    "three there",
    "one alone",
    "one missing",
    "the same twice",
    "another product",
    "another of the class",
    "sides exchanged",
    "mixed",
    "grown together",
    "colors exchanged",
    "blank",
    "blurred away",
)


@dataclass(frozen=True)
class KnownProduct:
    """``sprites`` are cut-outs of photos that ``memory``, ``(photos, width)``, leaves out.

    A product without a sprite is never pasted: it is only a rival.
    """

    sku: str
    class_noun: str
    sprites: tuple[Sprite, ...]
    memory: Features


@dataclass(frozen=True)
class KnownScene:
    """A picture, the products that it was named with, and the right verdict of each."""

    kind: str
    pixels: Pixels
    named: tuple[tuple[str, Region], ...]
    truth: tuple[str, ...]
    color_swap: bool = False
    blank: bool = False


Draw = Callable[[np.random.Generator, Sequence[KnownProduct]], KnownScene | None]


def columns(count: int) -> tuple[Region, ...]:
    """The whole picture, halves, or thirds: the layouts of a night."""
    return tuple(Region(index / count, 0.0, (index + 1) / count, 1.0) for index in range(count))


def cut_out(pixels: Pixels, mask: Pixels) -> Sprite:
    """A photo's product on nothing, standing in a square."""
    return Sprite(stand_in_square(np.dstack([pixels, mask])), SpriteLabel("product"))


def draw_known_scenes(
    products: Sequence[KnownProduct], per_kind: int, seed: int
) -> list[KnownScene]:
    """``per_kind`` pictures of every kind that these products allow; the same seed, the same."""
    scenes = []
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, number])
        for turn in range(per_kind):
            scene = _draw(kind, rng, products, turn)
            if scene is not None:
                scenes.append(scene)
    return scenes


def _draw(
    kind: str, rng: np.random.Generator, products: Sequence[KnownProduct], turn: int
) -> KnownScene | None:
    first, second, third = _chosen(rng, products, turn)
    twins = [p for p in products if p.class_noun == first.class_noun and p is not first]
    named = {"three there": [first, second, third], "one alone": [first]}.get(kind, [first, second])
    truth = ["found"] * len(named)
    shown: list[Sprite | None] = [_pick(rng, product) for product in named]
    if kind == "one missing":
        shown[1], truth[1] = None, "missing"
    elif kind == "the same twice":
        shown[1], truth = _pick(rng, first), ["duplicated", "missing"]
    elif kind == "another product":
        shown[1], truth[1] = _pick(rng, third), "missing"
    elif kind == "another of the class":
        if not twins:
            return None
        twin = twins[int(rng.integers(len(twins)))]
        shown[0], truth = _pick(rng, twin), ["missing", "duplicated" if twin is second else "found"]
    elif kind == "sides exchanged":
        shown, truth = shown[::-1], ["swapped", "swapped"]
    elif kind == "mixed":
        blend = _mixed(*(sprite for sprite in shown if sprite))
        shown, truth = [blend, blend], ["missing", "missing"]
    elif kind == "grown together":
        grown = _grown_together(*(sprite for sprite in shown if sprite))
        shown, truth = [grown], ["missing", "missing"]
    elif kind == "colors exchanged":
        one, two = (sprite for sprite in shown if sprite)
        shown = [_tinted(one, two), _tinted(two, one)]
    elif kind in ("blank", "blurred away"):
        truth = ["missing", "missing"]
    pixels = _picture(rng, shown, len(named))
    if kind == "blank":
        noise = rng.normal(rng.uniform(0, 255), 2.0, pixels.shape)
        pixels = np.clip(noise, 0, 255).astype(np.uint8)
    elif kind == "blurred away":
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(BLUR_PX))
        pixels = np.asarray(blurred)
    regions = columns(len(named))
    return KnownScene(
        kind,
        pixels,
        tuple((product.sku, region) for product, region in zip(named, regions, strict=True)),
        tuple(truth),
        color_swap=kind == "colors exchanged",
        blank=kind == "blank",
    )


def _chosen(
    rng: np.random.Generator, products: Sequence[KnownProduct], turn: int
) -> list[KnownProduct]:
    """Three products, all in turn first; every second time the next is of the same class."""
    first = products[turn % len(products)]
    rest = [product for product in products if product is not first]
    order = [rest[index] for index in rng.permutation(len(rest))]
    if turn % 2:
        order.sort(key=lambda product: product.class_noun != first.class_noun)
    return [first, *order[:2]]


def _pick(rng: np.random.Generator, product: KnownProduct) -> Sprite:
    return product.sprites[int(rng.integers(len(product.sprites)))]


def _picture(rng: np.random.Generator, shown: Sequence[Sprite | None], named: int) -> Pixels:
    """``shown`` from left to right, as high as one product's picture and as wide as ``named``'s.

    Composed on a square of that width, of which a band that holds every product is kept.
    """
    width = SIDE_PX * (named + 1) // 2
    placements = draw_placements(rng, len(shown))
    if len(shown) == 1:
        placements = tuple(_sized(place, SIDE_PX / width) for place in placements)
    kind = str(rng.choice(list(BACKGROUNDS)))
    background = paint_background(kind, int(rng.integers(2**31)), width)
    there = [(sprite, place) for sprite, place in zip(shown, placements, strict=True) if sprite]
    sprites, places = [sprite for sprite, _ in there], [place for _, place in there]
    lowest = max(place.base_y for place in placements) + rng.uniform(0.01, 0.06)
    bottom = min(width, max(SIDE_PX, round(lowest * width)))
    return compose(background, sprites, places)[0][bottom - SIDE_PX : bottom]


def _sized(place: Placement, factor: float) -> Placement:
    return replace(place, size=place.size * factor)


def _mixed(first: Sprite, second: Sprite) -> Sprite:
    """The average of two cut-outs, as when two concepts melt into one."""
    mean = (first.rgba.astype(np.float64) + second.rgba) / 2
    return Sprite(np.rint(mean).astype(np.uint8), SpriteLabel("product"))


def _grown_together(first: Sprite, second: Sprite) -> Sprite:
    """The left half of one cut-out and the right half of the other, without a gap."""
    middle = first.rgba.shape[1] // 2
    halves = [first.rgba[:, :middle], second.rgba[:, second.rgba.shape[1] // 2 :]]
    return Sprite(np.concatenate(halves, axis=1), SpriteLabel("product"))


def _tinted(sprite: Sprite, like: Sprite) -> Sprite:
    """``sprite`` with its own lightness and the mean and spread of the colours of ``like``."""
    own, other = _opponent(sprite), _opponent(like)
    inside, there = sprite.rgba[..., 3] > 128, like.rgba[..., 3] > 128
    changed = own.copy()
    for axis in range(3):
        mean, spread = own[inside, axis].mean(), own[inside, axis].std() + 1e-6
        target, width = other[there, axis].mean(), other[there, axis].std()
        changed[..., axis] = (own[..., axis] - mean) / spread * width + target
    rgba = sprite.rgba.copy()
    rgba[..., :3] = np.clip(changed @ np.linalg.inv(_OPPONENT).T, 0, 255).astype(np.uint8)
    return Sprite(rgba, SpriteLabel("product"))


_OPPONENT = np.array([[1 / 3, 1 / 3, 1 / 3], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]])


def _opponent(sprite: Sprite) -> np.ndarray:
    return np.asarray(sprite.rgba[..., :3].astype(np.float64) @ _OPPONENT.T)


def split_products(
    products: Mapping[str, KnownProduct],
) -> tuple[list[KnownProduct], list[KnownProduct]]:
    """Two halves that share no class: thresholds are chosen on one and reported on the other.

    Classes go in turn, those with the most products first, so that both halves have
    same-class neighbours.
    """
    by_class: dict[str, list[KnownProduct]] = {}
    for sku in sorted(sku for sku, product in products.items() if product.sprites):
        by_class.setdefault(products[sku].class_noun, []).append(products[sku])
    halves: tuple[list[KnownProduct], list[KnownProduct]] = ([], [])
    for group in sorted(by_class.values(), key=lambda g: (-len(g), g[0].class_noun)):
        (halves[0] if len(halves[0]) <= len(halves[1]) else halves[1]).extend(group)
    return halves
