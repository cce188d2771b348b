"""Learned rows of bases that read a prompt with two CLIP text encoders, CLIP-L and CLIP-G."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from catalog_pipeline.diffusion.families.stable_diffusion import checked_rows
from catalog_pipeline.diffusion.text import add_tokens


class ClipPair:
    """Of a family with the parts ``text_encoder``, ``tokenizer`` and the same with ``_2``."""

    parts: Mapping[str, Any]

    @property
    def clip_widths(self) -> list[int]:
        """Of the hidden states of each, and of its part of a learned row."""
        names = ("text_encoder", "text_encoder_2")
        return [int(self.parts[name].config.hidden_size) for name in names]

    def inversion_rows(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """``clip_l`` and ``clip_g`` side by side."""
        encoders = [self.parts["text_encoder"], self.parts["text_encoder_2"]]
        return checked_rows(tensors, ["clip_l", "clip_g"], encoders)

    def inversion_state_dict(self, token: str, rows: Tensor) -> dict[str, Tensor]:
        """``clip_l`` and ``clip_g``, the rows of each encoder, as ComfyUI and others name them."""
        del token
        first, second = rows.split(self.clip_widths, 1)
        return {"clip_l": first.contiguous(), "clip_g": second.contiguous()}

    def add_tokens(self, rows: Mapping[str, Tensor]) -> None:
        """To both tokenizers and text encoders, each with its columns."""
        first = self.clip_widths[0]
        for end, columns in (("", slice(first)), ("_2", slice(first, None))):
            parts = self.parts[f"tokenizer{end}"], self.parts[f"text_encoder{end}"]
            add_tokens(*parts, {token: row[columns] for token, row in rows.items()})
