"""What a night shows: which products stand together, in which scene, on which side.

Every draw hashes a ``draw`` text (seed, day, collection) with the name of what is
drawn, so that one product more or less leaves the other draws alone, and nothing
depends on the order of the input or on Python's ``hash``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from catalog_pipeline.records import Concept
from catalog_pipeline.settings import GenerationSettings, SceneTemplate

KINDS = {1: "singles", 2: "pairs", 3: "triples"}
"""What a picture of so many products is called."""


@dataclass(frozen=True)
class Slot:
    """One picture to come: its products left to right, its scene, and its name for draws.

    ``turn`` counts the pictures of the same products on the same night from 0.
    """

    skus: tuple[str, ...]
    scene: SceneTemplate
    turn: int

    @property
    def key(self) -> tuple[str, ...]:
        """The name of this picture among the draws of its night."""
        return (*sorted(self.skus), str(self.turn))


def draw_slots(
    by_sku: Mapping[str, Concept], settings: GenerationSettings, draw: str
) -> tuple[list[Slot], list[str]]:
    """Every picture that the policies ask for, and in words what they asked for in vain."""
    policies = settings.policies
    notes: list[str] = []
    groups: list[tuple[str, ...]] = [
        (sku,) for sku in by_sku for _ in range(policies.singles_per_sku)
    ]
    for size, count in ((2, policies.pairs), (3, policies.triples)):
        if count == 0:
            continue
        eligible = _find_eligible(by_sku, size, policies.pair_rule)
        if not eligible:
            notes.append(
                f"no {KINDS[size]} planned: {len(by_sku)} product(s) give no {size} that "
                f"satisfy pair_rule {policies.pair_rule!r}"
            )
            continue
        lonely = sorted(set(by_sku) - set(eligible))
        if lonely:
            notes.append(
                f"in no {KINDS[size]} under pair_rule {policies.pair_rule!r}: {shorten(lonely)}"
            )
        groups += _draw_groups(eligible, size, count, policies.pair_rule, draw)
    turns: Counter[tuple[str, ...]] = Counter()
    slots = []
    for group in groups:
        turn = turns[group]
        turns[group] += 1
        scenes = _order_scenes(settings.scenes, draw, group)
        skus = _order_sides(group, turn, draw)
        slots.append(Slot(skus, scenes[turn % len(scenes)], turn))
    if not slots:
        notes.append("nothing planned: the policies ask for no pictures of these products")
    return slots, notes


def _find_eligible(by_sku: Mapping[str, Concept], size: int, rule: str) -> dict[str, str]:
    """SKU -> category of the products that can stand in a group of ``size``."""
    categories = {sku: c.category or c.class_noun for sku, c in by_sku.items()}
    sizes = Counter(categories.values())
    if rule == "same_category":
        return {sku: category for sku, category in categories.items() if sizes[category] >= size}
    kinds = len(sizes) if rule == "cross_category" else len(categories)
    return categories if kinds >= size else {}


def _draw_groups(
    categories: Mapping[str, str], size: int, count: int, rule: str, draw: str
) -> list[tuple[str, ...]]:
    """``count`` groups of ``size`` SKUs, sorted within, every SKU about equally often.

    Greedy: the SKU shown least begins; beside it come those that stood beside it
    least, of these the one shown least. Ties go by a hash that mixes the day in.
    """
    rank = {sku: hash_number(draw, "rank", str(size), sku) for sku in categories}
    shown: Counter[str] = Counter()
    together: Counter[frozenset[str]] = Counter()
    groups = []
    for _ in range(count):
        first = min(categories, key=lambda sku: (shown[sku], rank[sku]))
        group = [first]
        while len(group) < size:
            taken = {categories[sku] for sku in group}
            options = [
                sku
                for sku, category in categories.items()
                if sku not in group
                and (rule == "any" or (category in taken) == (rule == "same_category"))
            ]
            meetings = {s: sum(together[frozenset((s, g))] for g in group) for s in options}
            salt = rank[first]
            group.append(min(options, key=lambda s: (meetings[s], shown[s], rank[s] ^ salt)))
        shown.update(group)
        together.update(frozenset(pair) for pair in combinations(group, 2))
        groups.append(tuple(sorted(group)))
    return groups


def _order_scenes(
    scenes: Sequence[SceneTemplate], draw: str, group: tuple[str, ...]
) -> list[SceneTemplate]:
    """A permutation of the scenes for one group; a heavier scene tends to come earlier.

    Weighted sampling without replacement (Efraimidis and Spirakis, 2006): sort by
    ``-log(u) / weight`` with ``u`` uniform in (0, 1).
    """

    def arrival(scene: SceneTemplate) -> float:
        uniform = (hash_number(draw, "scene", *group, scene.name) + 0.5) / 2**64
        return -math.log(uniform) / scene.weight

    return sorted(scenes, key=arrival)


def _order_sides(group: tuple[str, ...], turn: int, draw: str) -> tuple[str, ...]:
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
