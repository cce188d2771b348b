"""CIDM-style merging: all concepts' deltas act on every prompt, weighed by the prompt's text."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from catalog_pipeline.diffusion.text import PlaceholderConditioner
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.learning.methods.own_slots import OwnSlots
from catalog_pipeline.records import Concept

CIDM_TEMPERATURE = 20.0
"""Ours: with it a named product of eight gets at least 0.96 of the merge (measured as below)."""


class Cidm(OwnSlots):
    """Slots of one concept each, trained as :class:`OwnSlots` trains them, merged at inference::

        delta W(c) = sum_i softmax_i(temperature * s_i(c)) U_i D_i
        s_i(c)     = mean_q max_p cos(e_p(c), v_iq)

    ``e_p(c)`` is the input embedding of word ``p`` of the prompt, ``v_iq`` the learned
    row of placeholder ``q`` of concept ``i``. Base-only prompts are merged alike.

    **Our reconstruction** of the elastic weight aggregation of arXiv:2410.17594,
    which weighs by a softmax over text similarities too. **Differs from the paper:**
    no terms for shared and task-specific knowledge in training, one weight a concept
    rather than one a layer, no learned layer-wise embeddings, no region control.
    Similarities are taken before the text encoder. Measured on eight products learned
    on the embedded base, three prompts each: with rows the named product had the
    greatest weight in 24 of 24 prompts (0.99 of the merge on average), with the text
    encoder's hidden states in 17 (0.16).
    """

    name = "cidm"
    exact = False

    def __init__(self, context: LearningContext, temperature: float = CIDM_TEMPERATURE) -> None:
        super().__init__(context)
        self._temperature = temperature

    def install_foundation(self) -> None:
        """Every slot: all of them act on every prompt."""
        for concept in self.learned:
            self.install(concept)

    @torch.no_grad()
    def weights(self, prompt: str) -> dict[str, float]:
        """The share of each learned SKU in the merge for ``prompt``; they sum to 1."""
        words = self._words(prompt)
        similarity = []
        for concept in self.learned:
            rows = self._rows(concept)
            similarity.append((words @ rows.T).amax(0).mean())
        shares = torch.softmax(self._temperature * torch.stack(similarity), 0).tolist()
        return dict(zip([concept.sku for concept in self.learned], shares, strict=True))

    def slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        """The merge for ``prompt``, whoever it names."""
        if not self.learned:
            return None
        merged = f"merge|{prompt}"
        self.engine.adapter.compose(merged, self.weights(prompt))
        return merged

    @property
    def _text(self) -> PlaceholderConditioner:
        text = self.engine.text
        if not isinstance(text, PlaceholderConditioner):
            raise LearningError(
                f"cidm weighs concepts by their token rows, and {self.engine.base.title} learns "
                "none; choose another method"
            )
        return text

    def _rows(self, concept: Concept) -> Tensor:
        """Unit rows of the placeholders, ``(placeholders, width)``."""
        rows = torch.stack([*self._text.parameters_of(concept.placeholder_tokens)])
        return normalize(rows.float(), dim=1)

    def _words(self, prompt: str) -> Tensor:
        """Unit input embeddings ``(words + 1, width)``: from the first word to the end mark."""
        text = self._text
        ids = text.input_ids([prompt])
        end = ids[0].tolist().index(text.tokenizer.eos_token_id)
        return normalize(text.table(ids)[0, 1 : end + 1].float(), dim=1)
