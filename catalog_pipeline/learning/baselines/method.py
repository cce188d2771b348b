"""What the benchmark asks of a lifelong method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.learning.memory import Encode
from catalog_pipeline.records import Concept, Features, Photo
from catalog_pipeline.settings import LearningSettings


@dataclass(frozen=True)
class NewConcept:
    """What a task brings: the concept, its photos (masked where possible) and their features.

    ``features`` ``(photos, width)`` are what a long-term memory may keep; the
    photos are gone after the task.
    """

    concept: Concept
    photos: tuple[Photo, ...]
    features: Features


@dataclass(frozen=True)
class Workshop:
    """What all methods share: one engine, one set of settings, one encoder, one seed.

    ``settings.losses`` and ``settings.adapter.slots`` are the method's to replace;
    everything else is the same for all.
    """

    engine: DiffusionEngine
    settings: LearningSettings
    encode: Encode
    backdrops: tuple[Backdrop, ...]
    plan: SamplingPlan
    seed: int


class LifelongMethod(Protocol):
    """A method that learns concepts one after the other.

    A fresh object on a fresh engine has learned nothing. Everything that it
    carries from task to task is in the engine (slots, token rows) and in
    :meth:`state`.
    """

    @property
    def name(self) -> str:
        """Its name in the table."""

    def learn(self, new: NewConcept) -> None:
        """Learn one concept with the photos of this task alone; tasks are counted from 1."""

    def regional_prompt(self, template: str, concept: Concept | None) -> RegionalPrompt:
        """How to render ``template`` (with ``{concept}``), or a base-only prompt for ``None``."""

    def state(self) -> Mapping[str, Tensor]:
        """Slots, token rows and memory: what a process that goes on later needs."""

    def restore(self, state: Mapping[str, Tensor], learned: tuple[NewConcept, ...]) -> None:
        """Put a :meth:`state` back into a fresh engine; ``learned`` in order, without photos."""
