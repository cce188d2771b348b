"""Scene sets: which things stand together in which scene, drawn the same way on every machine.

A draw takes the least shown things first and breaks ties by hash, so a shorter set is the
beginning of a longer one, and every product is shown before one is shown again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

TEXTS = (
    "on a white background",
    "on a wooden table",
    "on a sandy beach",
    "on green grass",
    "on a marble counter",
    "in the snow",
    "in front of a brick wall",
    "on pink fabric",
)
SAME_CLASS_TURNS = 2

# Things of base-only prompts: silhouettes that are told apart whatever their colour, hues far
# from one another, and grounds without a hue of their own, so that a colour is the thing's.
SWAP_NOUNS = ("mug", "backpack", "sneaker", "chair", "lamp", "toy car", "teapot", "hat", "book")
SWAP_COLORS = ("red", "yellow", "green", "blue", "purple")
SWAP_TEXTS = (
    "on a white background",
    "on a gray background",
    "on a marble counter",
    "on a stone floor",
    "in the snow",
)


@dataclass(frozen=True)
class Scene:
    """One picture to make of ``things`` (SKUs, or ``red mug``), from left to right."""

    number: int
    things: tuple[str, ...]
    text: str
    seed: int


SUITES = {"pairs": 40, "triples": 20, "same_class": 1000, "swaps": 30}
"""Scene sets and how many scenes each has; ``same_class`` has all that there are."""

MODES = ("learned", "anchored")
COMPARED = ("ours", "ours_gradient")
"""How attention control is compared: in which scenes, and which methods unless told otherwise."""


def draw_scenes(suite: str, classes: Mapping[str, str], count: int) -> tuple[Scene, ...]:
    """The scenes of ``suite``.

    Args:
        suite: one of :data:`SUITES`.
        classes: SKU -> class noun of every learned product; ``swaps`` needs none.
        count: at most so many.
    """
    if suite == "swaps":
        return _draw_swaps(count)
    if suite == "same_class":
        mates = [pair for pair in combinations(sorted(classes), 2) if _mates(pair, classes)]
        groups = [pair for _ in range(SAME_CLASS_TURNS) for pair in mates][:count]
    else:
        groups = draw_groups(classes, {"pairs": 2, "triples": 3}[suite], count)
    return tuple(
        _scene(suite, number, _ordered(group, suite), TEXTS) for number, group in enumerate(groups)
    )


def draw_groups(classes: Mapping[str, str], size: int, count: int) -> list[tuple[str, ...]]:
    """``count`` groups of products of different classes, all products about equally often."""
    pool = [
        group
        for group in combinations(sorted(classes), size)
        if len({classes[name] for name in group}) == size
    ]
    shown: Counter[str] = Counter()
    drawn: Counter[tuple[str, ...]] = Counter()

    def wanted(group: tuple[str, ...]) -> tuple[int, int, int]:
        return drawn[group], sum(shown[name] for name in group), _number(*group)

    groups: list[tuple[str, ...]] = []
    while pool and len(groups) < count:
        group = min(pool, key=wanted)
        drawn[group] += 1
        shown.update(group)
        groups.append(group)
    return groups


def _draw_swaps(count: int) -> tuple[Scene, ...]:
    pairs = draw_groups({noun: noun for noun in SWAP_NOUNS}, 2, count)
    scenes = []
    for number, pair in enumerate(pairs):
        colors = sorted(SWAP_COLORS, key=lambda color: _number(color, str(number), *pair))
        nouns = _ordered(pair, "swaps")
        things = tuple(f"{c} {noun}" for c, noun in zip(colors, nouns, strict=False))
        scenes.append(_scene("swaps", number, things, SWAP_TEXTS))
    return tuple(scenes)


def _scene(suite: str, number: int, things: tuple[str, ...], texts: Sequence[str]) -> Scene:
    text = texts[(number + number // len(texts)) % len(texts)]
    return Scene(number, things, text, _number("seed", suite, str(number), *things) % 2**31)


def _mates(pair: tuple[str, ...], classes: Mapping[str, str]) -> bool:
    return len({classes[name] for name in pair}) == 1


def _ordered(group: Sequence[str], suite: str) -> tuple[str, ...]:
    return tuple(sorted(group, key=lambda name: _number("side", suite, name, *group)))


def _number(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8])
