"""What one task of lifelong learning is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.learning.memory import LatentBank
from catalog_pipeline.learning.regulariser import Regulariser
from catalog_pipeline.records import Concept, Photo
from catalog_pipeline.settings import LossSettings

TEACHER_SLOT = "shared@teacher"


@dataclass(frozen=True)
class Subject:
    """One new concept of a task.

    Attributes:
        slot: the adapter slot that is trained.
        fresh_slot: start the slot from scratch; else go on with the installed one.
        routed_slot: the slot that prompts of the concept pass through, where that
            is a compound which ``slot`` is part of; by default ``slot`` itself.
    """

    concept: Concept
    photos: tuple[Photo, ...]
    slot: str
    fresh_slot: bool = True
    routed_slot: str | None = None

    @property
    def route(self) -> str:
        """The slot of the concept's prompts."""
        return self.routed_slot or self.slot


@dataclass(frozen=True)
class LearningTask:
    """What a task learns, and what it must not forget.

    Attributes:
        subjects: the new concepts, one or several; they take turns, step by step,
            so a task of ``n`` subjects has ``n * settings.steps`` steps.
        fingerprint: hash of all inputs; a checkpoint of another one is not resumed.
        seed: of views and initial values; each step draws timesteps and noise from a
            seed of its own, so that two methods that differ in their other terms see
            the same ones.
        losses: weights of the terms.
        prior, exemplars: banks of Eqs. (3) and (4), arXiv:2309.04430; ``None``
            where no term reads them. With a slot of the concept's own none does: no
            other prompt is routed through it, so the gradient of these terms is zero.
        regularisers: further terms of the loss, of rival methods.
    """

    subjects: tuple[Subject, ...]
    backdrops: tuple[Backdrop, ...]
    fingerprint: str
    seed: int
    losses: LossSettings = field(default_factory=LossSettings)
    prior: LatentBank | None = None
    exemplars: LatentBank | None = None
    regularisers: tuple[Regulariser, ...] = ()

    @property
    def slots(self) -> tuple[str, ...]:
        """The trained slots, each once."""
        return tuple(dict.fromkeys(subject.slot for subject in self.subjects))

    @property
    def bank_slot(self) -> str:
        """The slot that remembered and prior prompts pass through: the shared one."""
        return self.subjects[0].route
