"""Text conditioning by a language model, which is frozen and whose rows are not trained."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from catalog_pipeline.diffusion.prompts import LanguageModelPrompts
from catalog_pipeline.diffusion.text import TextConditioner, not_held, too_long

_KEPT = 64
"""Encoded prompts that are kept: what a task trains on, or a batch of a night reads."""


class LanguageModelConditioner(TextConditioner):
    """Encodes every prompt once, without a gradient; the last ones are kept.

    A product's placeholder tokens are read as a word, :func:`.prompts.trigger_word`.
    """

    prompts: LanguageModelPrompts

    def __init__(self, prompts: LanguageModelPrompts, text_encoder: Any) -> None:
        self.prompts = prompts
        self.text_encoder = text_encoder
        self._encoded: OrderedDict[str, Tensor] = OrderedDict()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Each prompt alone: what is kept does not depend on its neighbours."""
        rows = []
        for prompt in prompts:
            if prompt not in self._encoded:
                with self.reading():
                    self._encoded[prompt] = self._encode(prompt)
            self._encoded.move_to_end(prompt)
            rows.append(self._encoded[prompt])
            if len(self._encoded) > _KEPT:
                self._encoded.popitem(last=False)
        return torch.stack(rows)

    def tokenize(self, prompt: str, **padding: Any) -> tuple[Tensor, Tensor]:
        """``input_ids`` and ``attention_mask``, ``(1, tokens)``, on the encoder's device.

        Raises:
            PromptError: a prompt that would be cut.
        """
        count = self.prompts.count(prompt)
        if count > self.length:
            raise too_long(prompt, count, self.length)
        tokens = self.prompts.tokenizer(self.prompts.text(prompt), return_tensors="pt", **padding)
        device = self.text_encoder.device
        return tokens["input_ids"].to(device), tokens["attention_mask"].to(device)

    @abstractmethod
    def _encode(self, prompt: str) -> Tensor:
        """``(tokens, width)``, in the dtype of the text encoder."""

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """The chat's marks before the prompt count."""
        found = self.prompts.positions(prompt, phrase)
        if not found:
            raise not_held(prompt, phrase)
        return found
