"""Sprites from a folder of 3D emoji pictures, named by Unicode.

The folder is that of the package ``@lobehub/fluent-emoji-3d`` (or its
``assets``): one transparent WebP a code point, such as ``1f3b8.webp``. Only
things that stand in a scene are taken: food, plants, animals, clothes,
instruments, furniture, vehicles, buildings; no people, hands, clocks or signs.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from catalog_pipeline.errors import ConfigurationError

_THINGS = """
2328 2600-2604 260e 2614-2615 2618 2692-2694 2696-2697 2699 26b0-26b1 26bd-26be 26c4-26c5 26c8 26cf
26d1 26d3 26ea 26f0-26f2 26f4-26f5 26f8 26fa 26fd 2702 2708-2709 270f 2712 2744
1f300 1f302-1f30e 1f321 1f324-1f32a 1f32d-1f335 1f336-1f384 1f386-1f38b 1f38d-1f393 1f396-1f397
1f399-1f39b 1f39e-1f3a2 1f3a4-1f3b4 1f3b7-1f3bb 1f3bd-1f3c0 1f3c5-1f3c6 1f3c8-1f3c9 1f3cd-1f3e6
1f3e8-1f3f0 1f3f5 1f3f7-1f43f 1f451-1f463 1f484 1f488-1f48a 1f48d-1f48e 1f490 1f492 1f4a1 1f4a3
1f4b0 1f4b3-1f4b8 1f4ba-1f4c7 1f4cb-1f4da 1f4dc-1f4e3 1f4e6 1f4ea-1f4f1 1f4f7-1f4fd 1f4ff
1f508 1f50b-1f50e 1f510-1f514 1f516 1f525-1f52e 1f54a 1f54c-1f54d 1f56f 1f576-1f579 1f587
1f58a-1f58d 1f5a5 1f5a8 1f5b1-1f5b2 1f5bc 1f5c2-1f5c4 1f5d1-1f5d3 1f5dc-1f5de 1f5e1 1f5f3
1f5fb-1f5fd 1f5ff 1f648 1f680-1f688 1f68a-1f68e 1f690-1f6a2 1f6a4-1f6a6 1f6aa 1f6b2 1f6bd 1f6bf
1f6c1 1f6cb 1f6cd-1f6cf 1f6d2 1f6d5-1f6d7 1f6dd-1f6e2 1f6e4-1f6e5 1f6e9 1f6f0 1f6f3-1f6fc
1f916 1f93f-1f945 1f947-1f96f 1f97b-1f9ae 1f9b4 1f9b7 1f9ba 1f9bc-1f9bf 1f9c0-1f9cb 1f9e0
1f9e2-1f9ff 1fa70-1fa74 1fa78-1fa7c 1fa80-1fa86 1fa90-1faac 1fab0-1faba 1fad0-1fad9
"""

_QUALIFIERS = (
    (re.compile(r"^(?:black|lower left|left-pointing|closed (?=book)) "), ""),
    (re.compile(r"^white sun"), "sun"),
    (re.compile(r"^(wo)?mans "), r"\1man's "),
)


@dataclass(frozen=True)
class Emoji:
    """One picture to take: its file and the noun phrase that captions use."""

    path: Path
    noun: str


def _code_points(ranges: str) -> frozenset[int]:
    points: set[int] = set()
    for part in ranges.split():
        first, _, last = part.partition("-")
        points |= set(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(points)


def emoji_noun(code_point: int) -> str:
    """What a caption calls the emoji: its Unicode name without typographic qualifiers."""
    noun = unicodedata.name(chr(code_point)).lower()
    for pattern, replacement in _QUALIFIERS:
        noun = pattern.sub(replacement, noun)
    return noun


def thing_nouns() -> list[str]:
    """The nouns of all emoji that can be taken, by code point; there need be no pictures."""
    named = (point for point in sorted(_code_points(_THINGS)) if unicodedata.name(chr(point), ""))
    return [emoji_noun(point) for point in named]


def list_emoji(folder: Path) -> list[Emoji]:
    """The usable emoji below ``folder``, sorted by code point; variation selectors are ignored.

    Raises:
        ConfigurationError: none of its files is named like an emoji picture.
    """
    things = _code_points(_THINGS)
    found: dict[int, Path] = {}
    for path in sorted(folder.rglob("*.webp")):
        parts = [part for part in path.stem.lower().split("-") if part != "fe0f"]
        if len(parts) == 1 and re.fullmatch(r"[0-9a-f]{4,5}", parts[0]):
            found.setdefault(int(parts[0], 16), path)
    usable = sorted(point for point in found if point in things)
    if not usable:
        raise ConfigurationError(
            f"no emoji pictures in {folder}; expected files such as 1f3b8.webp: the folder of "
            "the package @lobehub/fluent-emoji-3d; leave --emoji out to train without"
        )
    return [Emoji(found[point], emoji_noun(point)) for point in usable]
