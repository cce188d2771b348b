"""The naive sequence: one set of weights, trained on each task's photos, kept by nothing."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.learning.baselines.method import NewConcept
from catalog_pipeline.learning.baselines.sequence import TaskSequence
from catalog_pipeline.learning.memory import LatentBank
from catalog_pipeline.learning.regulariser import Regulariser
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.records import Concept

SHARED = "shared"
"""The one slot of the collection."""


class Finetune(TaskSequence):
    """Every prompt, base-only ones included, passes through the shared slot.

    The lower bound of the table, and the frame of the methods that add terms to it.
    Token rows of earlier concepts are frozen.
    """

    name = "finetune"

    def learn(self, new: NewConcept) -> None:
        """Train the shared slot further, and the new concept's tokens."""
        self._check(new)
        seed = self._seed(new.concept.sku)
        prior, exemplars = self._banks(new, seed)
        task = self._train(
            [self._subject(new, fresh=not self._learned)],
            seed,
            prior=prior,
            exemplars=exemplars,
            regularisers=self._regularisers(new),
        )
        self._after(new, task)
        self._remember(new)

    def _subject(self, new: NewConcept, *, fresh: bool) -> Subject:
        concept = new.concept
        return Subject(
            class_noun=concept.class_noun,
            photos=new.photos,
            slot=SHARED,
            placeholder_tokens=concept.placeholder_tokens,
            fresh_slot=fresh,
        )

    def _banks(self, new: NewConcept, seed: int) -> tuple[LatentBank | None, LatentBank | None]:
        """Prior and short-term bank of the task."""
        return None, None

    def _regularisers(self, new: NewConcept) -> tuple[Regulariser, ...]:
        """Further terms of the task's loss."""
        return ()

    def _after(self, new: NewConcept, task: LearningTask) -> None:
        """What is kept of the task while its photos are still at hand."""

    def _slots(self) -> Sequence[str]:
        return [SHARED] if self._learned else []

    def _slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        return SHARED if self._learned else None
