"""What one task of lifelong learning is given."""

from __future__ import annotations

from dataclasses import dataclass

from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.learning.memory import LatentBank
from catalog_pipeline.learning.regulariser import Regulariser
from catalog_pipeline.records import Photo

TEACHER_SLOT = "shared@teacher"


@dataclass(frozen=True)
class Subject:
    """One new concept of a task.

    Attributes:
        class_noun: where ``placeholder_tokens`` start.
        slot: the adapter slot that is trained.
        fresh_slot: start the slot from scratch; else go on with the installed one.
        routed_slot: the slot that prompts of the concept pass through, where that
            is a compound which ``slot`` is part of; by default ``slot`` itself.
    """

    class_noun: str
    photos: tuple[Photo, ...]
    slot: str
    placeholder_tokens: tuple[str, ...]
    fresh_slot: bool = True
    routed_slot: str | None = None

    @property
    def identifier(self) -> str:
        """The words that name the concept in a training prompt."""
        return " ".join((*self.placeholder_tokens, self.class_noun))

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
        prior, exemplars: banks of Eqs. (3) and (4), arXiv:2309.04430; ``None``
            where the slot is the concept's own, since no other prompt is routed
            through it and the gradient of these terms is zero.
        regularisers: further terms of the loss, of rival methods.
        fingerprint: hash of all inputs; a checkpoint of another one is not resumed.
        seed: of views, initial values, timesteps and noise.
        seed_each_step: draw each step from a seed of its own, so that two methods
            that differ in their other terms see the same views, timesteps and noise.
    """

    subjects: tuple[Subject, ...]
    backdrops: tuple[Backdrop, ...]
    fingerprint: str
    seed: int
    prior: LatentBank | None = None
    exemplars: LatentBank | None = None
    regularisers: tuple[Regulariser, ...] = ()
    seed_each_step: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        """The trained slots, each once."""
        return tuple(dict.fromkeys(subject.slot for subject in self.subjects))

    @property
    def bank_slot(self) -> str:
        """The slot that remembered and prior prompts pass through: the shared one."""
        return self.subjects[0].route
