"""A slot and two tokens for each concept, chosen by the prompt: nothing can be forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.learning.baselines.method import NewConcept
from catalog_pipeline.learning.baselines.sequence import TaskSequence
from catalog_pipeline.learning.task import Subject
from catalog_pipeline.records import Concept


class Ours(TaskSequence):
    """The project's default, ``learning.yaml: adapter.slots: per_concept``.

    A prompt that names a concept passes through its slot alone, a base-only prompt
    through none, so a later task changes no tensor that an earlier picture reads.
    """

    name = "ours"

    def learn(self, new: NewConcept) -> None:
        """Train a fresh slot, named by the SKU, on the photos alone."""
        self._check(new)
        concept = new.concept
        subject = Subject(
            class_noun=concept.class_noun,
            photos=new.photos,
            slot=concept.sku,
            placeholder_tokens=concept.placeholder_tokens,
        )
        self._train([subject], self._seed(concept.sku))
        self._remember(new)

    def _slots(self) -> Sequence[str]:
        return [item.concept.sku for item in self._learned]

    def _slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        return concept.sku if concept is not None else None
