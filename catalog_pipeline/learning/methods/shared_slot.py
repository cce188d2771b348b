"""One slot for the whole collection: the frame of L2DM and of most of its rivals."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.diffusion.parts import encode_part, install_part, slot_part, token_part
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LifelongMethod
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.records import SHARED, Concept, concept_part


class SharedSlot(LifelongMethod):
    """Every prompt, base-only ones included, passes through the slot that each task trains on.

    Token rows of earlier concepts are frozen.
    """

    def subjects(self, news: Sequence[NewConcept]) -> tuple[Subject, ...]:
        """The shared slot as the last task left it, fresh in the first one."""
        fresh = SHARED not in self.engine.adapter.slots
        return tuple(
            Subject(new.concept, new.photos, SHARED, fresh_slot=fresh and not index)
            for index, new in enumerate(news)
        )

    def slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        """The shared one, from the first task on."""
        return SHARED if SHARED in self.engine.adapter.slots else None

    def foundation(self) -> Sequence[str]:
        """The slot that the next task goes on with."""
        return (SHARED,)

    def install_foundation(self) -> None:
        """The shared slot and the token rows of every earlier concept."""
        data = self.collection.part(SHARED)
        if data is None:
            if self.learned:
                raise LearningError(
                    f"{len(self.learned)} concepts were learned in slots of their own; expected "
                    "the part 'shared' beside them; set learning.yaml: adapter.slots back to "
                    "per_concept, or learn the collection anew under another home"
                )
            return
        install_part(self.engine, data, slot=SHARED)
        self.require_same_kind(data)
        for concept in self.learned:
            tokens = self.collection.part(concept_part(concept.sku))
            if tokens is None:
                raise LearningError(f"'{concept.sku}' has no part; expected its token rows")
            install_part(self.engine, tokens, slot=None, tokens=concept.placeholder_tokens)

    def require_same_kind(self, data: bytes) -> None:
        """Raise :class:`LearningError` where training cannot go on from the stored slot."""
        del data  # installed: a task trains this very slot
        if not self.engine.adapter.is_as_set(SHARED):
            raise LearningError(
                "the shared slot was learned with another rank; expected that of learning.yaml: "
                "adapter; set adapter.rank back, or learn the collection anew under another home"
            )

    def parts(self, task: LearningTask) -> dict[str, bytes]:
        """``shared`` in full precision, as it is trained again, and ``concept/<sku>``: tokens."""
        return self.token_parts(task) | {SHARED: encode_part(slot_part(self.engine, SHARED))}

    def token_parts(self, task: LearningTask) -> dict[str, bytes]:
        """``concept/<sku>`` of each subject: its token rows."""
        concepts = [subject.concept for subject in task.subjects]
        return {
            concept_part(c.sku): encode_part(token_part(self.engine, c.placeholder_tokens))
            for c in concepts
        }


class Finetune(SharedSlot):
    """The naive sequence, the lower bound of the table: photos alone, kept by nothing."""

    name = "finetune"
