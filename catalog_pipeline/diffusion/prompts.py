"""Prompts as the base's text encoder will read them, counted without a weight or torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from catalog_pipeline.errors import BaseModelError

_PLACEHOLDER = re.compile(r"(<[A-Za-z0-9][A-Za-z0-9._-]*:\d+>)")
_CLIP_POSITIONS = 77
"""What a text encoder has whose configuration does not say."""


class PromptTokenizer:
    """Prompts -> tokens, and whether the base reads them whole; needs no weights.

    Attributes:
        length: tokens that the text encoder reads, start and end mark counted.
    """

    def __init__(self, tokenizer: Any, *positions: int) -> None:
        """``positions`` that each text encoder has."""

        @lru_cache(4096)  # a night says few nouns in few scenes, and many placeholder tokens
        def read(words: str) -> tuple[int, ...]:
            return tuple(tokenizer(words, add_special_tokens=False, verbose=False).input_ids)

        self._read = read
        # Folders made by hand may lack the tokenizer's own limit, which then reads 1e30.
        self.length = min(int(tokenizer.model_max_length), *positions)

    def tokens(self, prompt: str) -> list[str | int]:
        """Vocabulary ids, and placeholder tokens as they are written; without the marks."""
        tokens: list[str | int] = []
        for piece in _PLACEHOLDER.split(prompt):
            if _PLACEHOLDER.fullmatch(piece):
                tokens.append(piece)
            elif piece.strip():
                tokens.extend(self._read(piece.strip()))
        return tokens

    def count(self, prompt: str) -> int:
        """Tokens of ``prompt``, start and end mark counted."""
        return len(self.tokens(prompt)) + 2

    def fits(self, prompts: Iterable[str]) -> bool:
        """Whether every prompt is read whole."""
        return all(self.count(prompt) <= self.length for prompt in prompts)


def open_prompt_tokenizer(folder: Path) -> PromptTokenizer:
    """That of the base model in ``folder``; every family reads by CLIP's tokenizers.

    Raises:
        BaseModelError: its tokenizer or the configuration of a text encoder cannot be read.
    """
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        configs = [
            json.loads(file.read_bytes()) for file in folder.glob("text_encoder*/config.json")
        ]
        positions = [config.get("max_position_embeddings", _CLIP_POSITIONS) for config in configs]
        return PromptTokenizer(tokenizer, *positions)
    except Exception as error:  # the reader of tokenizer.json raises bare ones
        why = " ".join(str(error).split())
        raise BaseModelError(
            f"the tokenizer of the base model {folder} cannot be opened: {why}; copy the base "
            "model again"
        ) from error


def shorten_prompt(prompt: str) -> str:
    """``prompt`` as it may stand in a message: quoted, one line, and not pages long."""
    return repr(prompt if len(prompt) <= 160 else f"{prompt[:157]}...")
