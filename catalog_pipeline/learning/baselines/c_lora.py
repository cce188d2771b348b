"""C-LoRA: each task adds low-rank deltas where the sum of the earlier ones is small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import ConceptAdapter
from catalog_pipeline.learning.baselines.method import NewConcept, Workshop
from catalog_pipeline.learning.baselines.sequence import TaskSequence
from catalog_pipeline.learning.regulariser import StepContext
from catalog_pipeline.learning.task import Subject
from catalog_pipeline.records import Concept

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
        for name, layer in adapter.layers.items():
            down, up = adapter.factors(layer, self._slot)
            overlaps.append(((self._past[name] * (up @ down)) ** 2).sum())
        return torch.stack(overlaps).sum()[None]


class CLora(TaskSequence):
    """A new slot for each task; every prompt, base-only ones too, reads the sum of all.

    **Differs from the paper:** prompts keep the class noun, and tokens start from it
    rather than at random, so that all methods are asked the same; the deltas sit
    where ``learning.yaml: adapter`` puts them, not on cross-attention keys and values
    alone.
    """

    name = "c_lora"

    def __init__(self, workshop: Workshop, weight: float = C_LORA_WEIGHT) -> None:
        super().__init__(workshop)
        self._weight = weight

    def learn(self, new: NewConcept) -> None:
        """Train the task's own deltas, seen through the sum of all."""
        self._check(new)
        concept, adapter = new.concept, self._engine.adapter
        seed = self._seed(concept.sku)
        penalties = []
        if self._learned:
            penalties.append(CLoraPenalty(concept.sku, past_deltas(adapter), self._weight))
        # The sum must name the new slot before the task starts.
        adapter.add_slot(concept.sku, torch.Generator().manual_seed(seed))
        self._compose([*self._slots(), concept.sku])
        subject = Subject(
            class_noun=concept.class_noun,
            photos=new.photos,
            slot=concept.sku,
            placeholder_tokens=concept.placeholder_tokens,
            fresh_slot=False,
            routed_slot=SUM,
        )
        self._train([subject], seed, regularisers=tuple(penalties))
        self._remember(new)

    def _compose(self, slots: Sequence[str]) -> None:
        self._engine.adapter.compose(SUM, dict.fromkeys(slots, 1.0))

    def _slots(self) -> Sequence[str]:
        return [item.concept.sku for item in self._learned]

    def _slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        return SUM if self._learned else None

    def _restore_extra(self, state: Mapping[str, Tensor]) -> None:
        if self._learned:
            self._compose(self._slots())


@torch.no_grad()
def past_deltas(adapter: ConceptAdapter, slot: str = SUM) -> dict[str, Tensor]:
    """``|U D|`` ``(out, in)`` of ``slot`` at each layer."""
    deltas = {}
    for name, layer in adapter.layers.items():
        down, up = adapter.factors(layer, slot)
        deltas[name] = (up @ down).abs()
    return deltas
