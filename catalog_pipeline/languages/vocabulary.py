"""The phrases that texts are read into, and which of them a base knows.

``nouns.yaml`` and ``scenes.yaml`` hold what products and places are called, in general. A base
whose captions had few words knows few of them: its own list is closed, and a phrase outside gives
way to the one that ``kinds`` names, if that is on the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.plain_text import read_yaml

Part = Literal["noun", "scene", "avoid"]
"""What a text is of a prompt: the class noun, the place, or a piece of the negative prompt."""

_LISTS: Mapping[Part, tuple[str, str]] = {
    "noun": ("nouns.yaml", "nouns"),
    "scene": ("scenes.yaml", "scenes"),
    "avoid": ("scenes.yaml", "avoid"),
}


@dataclass(frozen=True)
class KnownPhrases:
    """What a base with a closed vocabulary was trained on."""

    nouns: frozenset[str]
    scenes: frozenset[str]

    def of(self, part: Part) -> frozenset[str] | None:
        """The phrases for ``part``; ``None`` where any will do."""
        return {"noun": self.nouns, "scene": self.scenes}.get(part)


@dataclass(frozen=True)
class Vocabulary:
    """The phrases of one part of a prompt.

    ``phrases`` maps each to other English words for it, ``kinds`` some to what stands in for
    them; ``known`` is what the base was trained on, ``None`` where that has no bounds.
    """

    part: Part
    phrases: Mapping[str, tuple[str, ...]]
    kinds: Mapping[str, str] = field(default_factory=dict)
    known: frozenset[str] | None = None

    @property
    def sha256(self) -> str:
        """Changes when anything changes that a match depends on."""
        known = None if self.known is None else sorted(self.known)
        phrases = {phrase: list(others) for phrase, others in self.phrases.items()}
        return canonical_sha256([phrases, dict(self.kinds), known])

    def holds(self, phrase: str) -> bool:
        """Whether ``phrase`` is one of these, or one that the base knows."""
        return phrase in self.phrases or phrase in (self.known or ())

    def is_known(self, phrase: str) -> bool:
        """Whether the base knows ``phrase``; always where it has no bounds."""
        return self.known is None or phrase in self.known

    def for_base(self, phrase: str) -> str:
        """``phrase``, or what stands in for it where the base does not know it."""
        stand_in = self.kinds.get(phrase, phrase)
        return stand_in if not self.is_known(phrase) and self.is_known(stand_in) else phrase

    def spelled_alike(self, text: str) -> list[str]:
        """Up to three known phrases, what stands in for ``text`` first, then by spelling."""
        candidates = sorted(self.known if self.known is not None else self.phrases)
        first = [self.for_base(text)] if self.for_base(text) != text else []
        words = [phrase for phrase in candidates if set(phrase.split()) & set(text.split()[-1:])]
        alike = get_close_matches(text, candidates, n=3, cutoff=0.5)
        return list(dict.fromkeys([*first, *words, *alike]))[:3]


def read_vocabulary(part: Part, known: KnownPhrases | None = None) -> Vocabulary:
    """The shipped phrases of ``part``; ``known`` to a base with a closed vocabulary."""
    file, section = _LISTS[part]
    content = _shipped(file)
    phrases = {phrase: tuple(others) for phrase, others in content[section].items()}
    kinds = content["kinds"] if part != "avoid" else {}
    return Vocabulary(part, phrases, kinds, known.of(part) if known is not None else None)


@cache
def _shipped(file: str) -> dict[str, Any]:
    content: dict[str, Any] = read_yaml((Path(__file__).parent / file).read_text("utf-8"))
    return content


@cache
def read_known_phrases(path: Path) -> KnownPhrases:
    """A base's own list: a YAML file with the keys ``nouns`` and ``scenes``, each a list.

    Raises:
        ConfigurationError: not such a file.
    """
    expected = "expected a YAML file with two lists, nouns and scenes"
    try:
        content = read_yaml(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); {expected}") from error
    if not isinstance(content, dict) or set(content) != {"nouns", "scenes"}:
        raise ConfigurationError(f"{path} holds {str(content)[:60]!r}; {expected}")
    return KnownPhrases(
        _phrases(path, content["nouns"], expected), _phrases(path, content["scenes"], expected)
    )


def _phrases(path: Path, content: object, expected: str) -> frozenset[str]:
    if not isinstance(content, list) or not all(isinstance(each, str) for each in content):
        raise ConfigurationError(f"{path} has a {type(content).__name__} for a list; {expected}")
    return frozenset(content)
