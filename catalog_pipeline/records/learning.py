"""Concepts, the versions that serve them, and what became of learning one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from catalog_pipeline.records.catalog import PhotoUse

SHARED = "shared"
"""The part, and the adapter slot, of a whole collection (``adapter.slots: shared``)."""

COLOR_SPREAD = "color_spread"
"""A metric of a concept: how far the colours of its photos are from each other, CIELAB units."""

TRAINED_STEPS = "trained_steps"
"""A metric of a concept learned under ``minutes_per_sku``: how many steps it was trained."""


def concept_part(sku: str) -> str:
    """The part that holds the token rows of ``sku``, and its own slot where it has one."""
    return f"concept/{sku}"


def memory_part(sku: str) -> str:
    """The part that holds what is remembered of the photos of ``sku``."""
    return f"memory/{sku}"


def curve_part(sku: str) -> str:
    """The part that holds the training loss of ``sku`` over steps."""
    return f"curve/{sku}"


def part_owner(name: str) -> str:
    """The SKU that the part ``name`` belongs to; empty for the collection's own."""
    return name.partition("/")[2]


@dataclass(frozen=True)
class Concept:
    """A learned SKU inside an adapter version.

    ``placeholder_tokens`` are the new vocabulary entries in prompt order;
    ``identifier`` is what a prompt says: the tokens followed by the class noun.
    ``photos_hash`` and ``config_hash`` are what the concept was learned from: the
    same two again mean that there is nothing to do. ``imported_from`` is the SHA-256 of the
    LoRA file that its weights come from; empty where they were learned here.
    """

    sku: str
    name: str
    class_noun: str
    category: str
    placeholder_tokens: tuple[str, ...]
    photos_hash: str
    task: int
    config_hash: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    imported_from: str = ""

    @property
    def identifier(self) -> str:
        """``<sku:0> <sku:1> mug``: the words that name this product in a prompt."""
        return " ".join((*self.placeholder_tokens, self.class_noun))


@dataclass(frozen=True)
class AdapterVersion:
    """One immutable state of a collection; ``version`` hashes everything below it.

    ``parts`` maps a part's name to the SHA-256 of its immutable safetensors blob:
    :data:`SHARED`, :func:`concept_part`, :func:`memory_part` and :func:`curve_part` name
    them. Parts that a task did not touch keep their hash, so disk and upload grow by
    one SKU a task, not by all.
    """

    version: str
    collection: str
    parent: str | None
    concepts: tuple[Concept, ...]
    base_model_hash: str
    config_hash: str
    parts: Mapping[str, str]
    memory_version: str
    code_version: str
    seed: int
    created_utc: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)

    def concept(self, sku: str) -> Concept | None:
        """The concept of ``sku``, or ``None`` when this version has not learned it."""
        return self._by_sku.get(sku)

    @cached_property
    def _by_sku(self) -> Mapping[str, Concept]:
        return {concept.sku: concept for concept in reversed(self.concepts)}


@dataclass(frozen=True)
class LearnOutcome:
    """What became of one SKU in one learning run.

    ``status`` is ``learned``, ``unchanged`` or ``failed``; ``loss_curve`` holds
    ``(step, loss)``; ``contact_sheet_png`` shows photos above, samples below, or why
    the quality gate refused a failed SKU (``metrics`` are then the gate's figures).
    """

    sku: str
    status: str
    version: str = ""
    reason: str = ""
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    loss_curve: tuple[tuple[int, float], ...] = ()
    contact_sheet_png: bytes = b""


@dataclass(frozen=True)
class LearningRow:
    """One attempt at learning a SKU; grain of the learning log: one row per ``attempt_id``.

    ``status`` is ``learned`` or ``failed``. ``concept_sha256`` is of the part
    ``concept/<sku>``, by which a picture's row names what it was rendered from.
    ``settings`` is ``learning.yaml`` as JSON.
    """

    attempt_id: str
    sku: str
    collection: str
    status: str
    reason: str
    version: str
    concept_sha256: str
    ended_utc: datetime
    seconds: float
    name: str
    class_noun: str
    content_hash: str
    photos_hash: str
    config_hash: str
    base_model_hash: str
    code_version: str
    settings: str
    photos: tuple[PhotoUse, ...]
    metrics: Mapping[str, float]
    imported_from: str = ""

    @property
    def steps(self) -> int:
        """How many steps it was trained, else those of its settings; 0 where nobody says."""
        return int(self.metrics.get(TRAINED_STEPS) or json.loads(self.settings).get("steps", 0))
