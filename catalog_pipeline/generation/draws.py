"""How a night is drawn: which products stand together, in which scene, on which side.

Every draw hashes a ``draw`` text (seed, day, collection) with the name of what is
drawn, so that one product more or less leaves the other draws alone, and nothing
depends on the order of the input or on Python's ``hash``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from catalog_pipeline.records import Concept
from catalog_pipeline.settings import SceneTemplate

Fits = Callable[[Sequence[Concept], SceneTemplate], bool]
"""Whether the base reads every prompt of these products in this scene whole."""

KINDS = {1: "singles", 2: "pairs", 3: "triples"}
"""What a picture of so many products is called."""


@dataclass(frozen=True)
class NightDraw:
    """What the hashes of a night begin with: ``night`` (seed and day), then collections.

    ``collections`` has the collection of every SKU. A picture draws by the collections that it
    shows, so that a product alone is drawn alike whatever else may stand beside others.
    """

    night: str
    collections: Mapping[str, str]

    @property
    def whole(self) -> str:
        """For what is drawn over all products; the same however many collections join."""
        names = set(self.collections.values())
        return f"{self.night}|{names.pop() if len(names) == 1 else ''}"

    def of(self, skus: Collection[str]) -> str:
        """For a picture of ``skus``."""
        return f"{self.night}|{'+'.join(sorted({self.collections[sku] for sku in skus}))}"


@dataclass(frozen=True)
class Slot:
    """One picture to come: its products left to right, its scene, and its name for draws.

    ``turn`` counts the pictures of the same products on the same night from 0;
    ``policy`` is the policy that asks for this one.
    """

    skus: tuple[str, ...]
    scene: SceneTemplate
    layout: str
    turn: int
    policy: str

    @property
    def key(self) -> tuple[str, ...]:
        """The name of this picture among the draws of its night."""
        return (*sorted(self.skus), str(self.turn))


def category_of(concept: Concept) -> str:
    """The category on the product card, else the class noun."""
    return concept.category or concept.class_noun


def find_eligible(by_sku: Mapping[str, Concept], size: int, rule: str) -> dict[str, str]:
    """SKU -> category of the products that can stand in a group of ``size``."""
    categories = {sku: category_of(concept) for sku, concept in by_sku.items()}
    sizes = Counter(categories.values())
    if rule == "same_category":
        return {sku: category for sku, category in categories.items() if sizes[category] >= size}
    kinds = len(sizes) if rule == "cross_category" else len(categories)
    return categories if kinds >= size else {}


def partners_by_rule(
    categories: Mapping[str, str], rule: str
) -> Callable[[Sequence[str]], list[str]]:
    """Group -> the SKUs that may join it under ``pair_rule``."""

    def find(group: Sequence[str]) -> list[str]:
        taken = {categories[sku] for sku in group}
        return [
            sku
            for sku, category in categories.items()
            if sku not in group
            and (rule == "any" or (category in taken) == (rule == "same_category"))
        ]

    return find


def draw_groups(
    skus: Collection[str],
    size: int,
    count: int,
    find_partners: Callable[[Sequence[str]], Sequence[str]],
    rank: Mapping[str, int],
) -> list[tuple[str, ...]]:
    """``count`` groups of ``size`` SKUs, sorted within, every SKU about equally often.

    Greedy: the SKU shown least begins; beside it come those that stood beside it
    least, of these the one shown least. Ties go by ``rank``, hashes of the day.
    Every SKU must have partners enough.
    """
    shown: Counter[str] = Counter()
    together: Counter[frozenset[str]] = Counter()
    groups = []
    for _ in range(count):
        first = min(skus, key=lambda sku: (shown[sku], rank[sku]))
        group = [first]
        while len(group) < size:
            options = find_partners(group)
            meetings = {s: sum(together[frozenset((s, g))] for g in group) for s in options}
            salt = rank[first]
            group.append(min(options, key=lambda s: (meetings[s], shown[s], rank[s] ^ salt)))
        shown.update(group)
        together.update(frozenset(pair) for pair in combinations(group, 2))
        groups.append(tuple(sorted(group)))
    return groups


def order_scenes(
    scenes: Sequence[SceneTemplate], draw: str, group: tuple[str, ...]
) -> list[SceneTemplate]:
    """A permutation of the scenes for one group; a heavier scene tends to come earlier."""
    named = {scene.name: scene for scene in scenes}
    weights = {scene.name: scene.weight for scene in scenes}
    return [named[name] for name in order_by_weight(weights, draw, "scene", *group)]


def order_by_weight(weights: Mapping[str, float], draw: str, *what: str) -> list[str]:
    """A permutation of the names of positive weight, drawn for ``what``.

    Weighted sampling without replacement (Efraimidis and Spirakis, 2006): sort by
    ``-log(u) / weight`` with ``u`` uniform in (0, 1).
    """

    def arrival(name: str) -> float:
        uniform = (hash_number(draw, *what, name) + 0.5) / 2**64
        return -math.log(uniform) / weights[name]

    return sorted((name for name, weight in weights.items() if weight > 0), key=arrival)


def order_sides(group: tuple[str, ...], turn: int, draw: str) -> tuple[str, ...]:
    """Who stands where: drawn once a group, then every turn moves one place on."""
    drawn = sorted(group, key=lambda sku: hash_number(draw, "side", *group, sku))
    shift = turn % len(drawn)
    return tuple(drawn[shift:] + drawn[:shift])


def shorten(skus: Sequence[str], limit: int = 10) -> str:
    """The first ``limit`` SKUs and how many more there are."""
    more = len(skus) - limit
    return ", ".join(skus[:limit]) + (f" and {more} more" if more > 0 else "")


def hash_number(*parts: str) -> int:
    """64 uniform bits that depend on every part and on where one ends."""
    text = json.dumps(parts, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
