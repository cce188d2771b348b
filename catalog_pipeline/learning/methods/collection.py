"""What was learned before a task: where a method reads it, and one that is held in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from catalog_pipeline.learning.memory import MEMORY_PROMPTS, RememberedConcept
from catalog_pipeline.records import Concept, Features, Photo


@dataclass(frozen=True)
class NewConcept:
    """What a task brings: the concept, its photos (masked where possible) and their features.

    ``features`` ``(photos, width)`` are what a long-term memory may keep; the
    photos are gone after the task.
    """

    concept: Concept
    photos: tuple[Photo, ...]
    features: Features


class Collection(Protocol):
    """What was learned before a task, wherever it is kept."""

    @property
    def concepts(self) -> Sequence[Concept]:
        """In the order of learning, without the ones that the task learns anew."""

    def part(self, name: str) -> bytes | None:
        """The bytes of a part that a task stored, ``None`` when none did."""

    def remembered(self, concept: Concept) -> RememberedConcept:
        """The long-term memory of one of ``concepts``."""


@dataclass
class HeldCollection:
    """A collection in memory; ``features`` by SKU, ``parts`` by name."""

    concepts: list[Concept] = field(default_factory=list)
    features: dict[str, Features] = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)

    def part(self, name: str) -> bytes | None:
        """The bytes of a part, ``None`` when no task stored it."""
        return self.parts.get(name)

    def remembered(self, concept: Concept) -> RememberedConcept:
        """The long-term memory of ``concept``."""
        return RememberedConcept(concept, MEMORY_PROMPTS, self.features[concept.sku])

    def add(self, news: Sequence[NewConcept], parts: Mapping[str, bytes]) -> None:
        """Keep what a task learned; its photos are not kept."""
        self.concepts += [new.concept for new in news]
        self.features |= {new.concept.sku: new.features for new in news}
        self.parts |= parts
