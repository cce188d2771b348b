"""A slot and tokens for each concept, chosen by the prompt: nothing can be forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.diffusion.parts import (
    compressed_slot_part,
    encode_part,
    install_part,
    token_part,
)
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LifelongMethod
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.records import Concept, concept_part


class OwnSlots(LifelongMethod):
    """The default, ``learning.yaml: adapter.slots: per_concept``.

    A prompt that names a concept passes through its slot alone, a base-only prompt
    through none, so a later task changes no tensor that an earlier picture reads. An
    earlier slot is brought into the engine when a prompt first names it, so a task
    costs the same in a catalog of any size.
    """

    name = "ours"
    exact = True

    def subjects(self, news: Sequence[NewConcept]) -> tuple[Subject, ...]:
        """A fresh slot each, named by the SKU."""
        return tuple(Subject(new.concept, new.photos, slot=new.concept.sku) for new in news)

    def slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        """The concept's own; none for a base-only prompt."""
        return concept.sku if concept is not None else None

    def install_foundation(self) -> None:
        """Nothing: a task reads no earlier slot."""

    def install(self, concept: Concept) -> bool:
        """False for what was learned with another adapter, or with a shared slot."""
        if concept.sku not in self.engine.adapter.slots:
            data = self.collection.part(concept_part(concept.sku))
            if data is None:
                return False
            tokens = concept.placeholder_tokens
            try:
                install_part(self.engine, data, slot=concept.sku, tokens=tokens)
            except ValueError:
                return False
        return concept.sku in self.engine.adapter.slots

    def parts(self, task: LearningTask) -> dict[str, bytes]:
        """``concept/<sku>``: the slot in as few bytes as ``learning.yaml: adapter`` asks for."""
        stored = {}
        for subject in task.subjects:
            slot = compressed_slot_part(self.engine, subject.slot, self.settings.adapter)
            tokens = token_part(self.engine, subject.concept.placeholder_tokens)
            stored[concept_part(subject.concept.sku)] = encode_part(slot | tokens)
        return stored
