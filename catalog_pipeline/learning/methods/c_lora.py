"""C-LoRA: each task adds low-rank deltas where the sum of the earlier ones is small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import ConceptAdapter
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.learning.methods.own_slots import OwnSlots
from catalog_pipeline.learning.regulariser import Regulariser, StepContext
from catalog_pipeline.learning.task import Subject
from catalog_pipeline.records import Concept, concept_part

SUM = "sum"
"""The compound slot of all tasks' deltas."""
C_LORA_WEIGHT = 1e2
"""Chosen as :data:`~.ewc.EWC_WEIGHT` was: weight 0: 0.375 and 0.441, 1e2: 0.354 and
0.447, 1e4: 0.354 and 0.463 (the second toy is hardly learned)."""


class CLoraPenalty:
    """``sum_layers || |sum_{k'<t} U_k' D_k'| * (U_t D_t) ||_F^2``: arXiv:2304.06027, section 4.

    ``*`` is the entrywise product; ``past`` holds ``|sum U D|`` ``(out, in)`` by layer.
    """

    def __init__(self, slot: str, past: Mapping[str, Tensor], weight: float) -> None:
        self._slot = slot
        self._past = dict(past)
        self.weight = weight

    def loss(self, context: StepContext) -> Tensor:
        """``(1,)``."""
        adapter = context.engine.adapter
        overlaps = []
        for name, layer in adapter.layers_of(self._slot).items():
            if name not in self._past:  # what is stored of a slot may leave layers out
                continue
            down, up = adapter.factors(layer, self._slot)
            overlaps.append(((self._past[name] * (up @ down)) ** 2).sum())
        return torch.stack(overlaps).sum()[None]


class CLora(OwnSlots):
    """A new slot for each task; every prompt, base-only ones too, reads the sum of all.

    **Differs from the paper:** prompts keep the class noun, and tokens start from it
    rather than at random, so that all methods get the same prompts; the deltas sit
    where ``learning.yaml: adapter`` puts them, not on cross-attention keys and values
    alone.
    """

    name = "c_lora"
    exact = False

    def __init__(self, context: LearningContext, weight: float = C_LORA_WEIGHT) -> None:
        super().__init__(context)
        self._weight = weight

    def subjects(self, news: Sequence[NewConcept]) -> tuple[Subject, ...]:
        """The task's own deltas, seen through the sum of all."""
        (new,) = news
        sku = new.concept.sku
        # The sum must name the new slot before the task starts.
        self.engine.adapter.add_slot(sku, torch.Generator().manual_seed(self.seed(sku)))
        self._compose([*self.learned, new.concept])
        return (Subject(new.concept, new.photos, sku, fresh_slot=False, routed_slot=SUM),)

    def regularisers(self, news: Sequence[NewConcept]) -> tuple[Regulariser, ...]:
        """The overlap with the sum of the earlier deltas."""
        if not self.learned:
            return ()
        return (CLoraPenalty(news[0].concept.sku, past_deltas(self.engine.adapter), self._weight),)

    def slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        """The sum, from the first task on."""
        return SUM if self.learned else None

    def foundation(self) -> Sequence[str]:
        """Every earlier slot."""
        return [concept_part(concept.sku) for concept in self.learned]

    def install_foundation(self) -> None:
        """Every slot, and their sum."""
        for concept in self.learned:
            self.install(concept)
        if self.learned:
            self._compose(self.learned)

    def _compose(self, concepts: Sequence[Concept]) -> None:
        self.engine.adapter.compose(SUM, dict.fromkeys([c.sku for c in concepts], 1.0))


@torch.no_grad()
def past_deltas(adapter: ConceptAdapter, slot: str = SUM) -> dict[str, Tensor]:
    """``|U D|`` ``(out, in)`` of ``slot`` at each layer."""
    deltas = {}
    for name, layer in adapter.layers_of(slot).items():
        down, up = adapter.factors(layer, slot)
        deltas[name] = (up @ down).abs()
    return deltas
