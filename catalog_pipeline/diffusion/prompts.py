"""Prompts as the base's text encoder will read them, counted without a weight or torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from catalog_pipeline.errors import BaseModelError

_PLACEHOLDER = re.compile(r"(<[A-Za-z0-9][A-Za-z0-9._-]*:\d+>)")
_PLACEHOLDER_OF = re.compile(r"(\s*)<([A-Za-z0-9][A-Za-z0-9._-]*):(\d+)>")
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
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


class LanguageModelPrompts(PromptTokenizer):
    """Prompts of a base whose text encoder is a language model: in a chat, and in words.

    Placeholder tokens stand for a word that means nothing, :func:`trigger_word`; what a
    product looks like is in its slot alone. Training rows of such an encoder would send a
    gradient through billions of weights, and it could not be put away after use.

    Attributes:
        length: positions that the denoiser reads of a text, the chat's own counted.
    """

    def __init__(
        self, tokenizer: Any, chat: Callable[[str], str], length: int, dropped: int = 0
    ) -> None:
        """``chat`` puts marks around a prompt; the first ``dropped`` tokens are not read."""
        self.tokenizer = tokenizer
        self.length = length
        self.dropped = dropped
        self._chat = chat

        @lru_cache(4096)
        def count(prompt: str) -> int:
            return len(tokenizer(self.text(prompt), verbose=False).input_ids) - dropped

        self._count = count

    def words(self, prompt: str) -> str:
        """:func:`plain_words` of ``prompt``."""
        return plain_words(prompt)

    def text(self, prompt: str) -> str:
        """What the tokenizer is given."""
        return self._chat(self.words(prompt))

    def count(self, prompt: str) -> int:
        """Positions of ``prompt``."""
        return self._count(prompt)

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Where the tokens of ``phrase`` first stand; empty where they do not."""
        words, text = self.words(prompt), self.text(prompt)
        found = words.find(self.words(phrase))
        if found < 0:
            return ()
        start = text.index(words) + found
        end = start + len(self.words(phrase))
        spans = self.tokenizer(text, return_offsets_mapping=True, verbose=False).offset_mapping
        return tuple(
            index - self.dropped
            for index, (low, high) in enumerate(spans)
            if low < end and high > start
        )


def plain_words(prompt: str) -> str:
    """``prompt`` with a :func:`trigger_word` for the placeholder tokens of each product."""
    return _PLACEHOLDER_OF.sub(
        lambda found: f"{found[1]}{trigger_word(found[2])}" if found[3] == "0" else "", prompt
    )


def trigger_word(sku: str) -> str:
    """A word that means nothing and stands for ``sku``, as ``vonatiku``: four syllables."""
    number = int.from_bytes(hashlib.sha256(sku.encode()).digest()[:8], "big")
    syllables = []
    for _ in range(4):
        number, consonant = divmod(number, len(_CONSONANTS))
        number, vowel = divmod(number, len(_VOWELS))
        syllables.append(_CONSONANTS[consonant] + _VOWELS[vowel])
    return "".join(syllables)


def qwen3_prompts(tokenizer: Any) -> LanguageModelPrompts:
    """Of FLUX.2-klein: the tokenizer's own chat, its thinking switched off; 512 positions."""
    template = partial(
        tokenizer.apply_chat_template,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    return LanguageModelPrompts(
        tokenizer, lambda words: str(template([{"role": "user", "content": words}])), 512
    )


QWEN_IMAGE_CHAT = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
"""What Qwen-Image was trained with, as in diffusers' ``QwenImagePipeline``."""
_QWEN_IMAGE_DROPPED = 34
"""Tokens of its first message, which the denoiser does not read."""
_QWEN_IMAGE_LENGTH = 256
"""The denoiser reads 1,024; every text is padded to this, and more would cost time for nothing."""


def qwen_image_prompts(tokenizer: Any) -> LanguageModelPrompts:
    """Of Qwen-Image, without the first message; 256 positions."""
    return LanguageModelPrompts(
        tokenizer, QWEN_IMAGE_CHAT.format, _QWEN_IMAGE_LENGTH, _QWEN_IMAGE_DROPPED
    )


_T5_LENGTH = 256
"""Of Stable Diffusion 3.5, as in diffusers' ``StableDiffusion3Pipeline``."""


def t5_prompts(tokenizer: Any) -> LanguageModelPrompts:
    """Of T5 beside the CLIPs of Stable Diffusion 3.5, without a chat; 256 positions."""
    return LanguageModelPrompts(tokenizer, str, _T5_LENGTH)


_LANGUAGE_MODELS: dict[str, Callable[[Any], PromptTokenizer]] = {
    "qwen3": qwen3_prompts,
    "qwen2_5_vl": qwen_image_prompts,
}
"""``model_type`` of a text encoder -> how it reads prompts; the others are CLIP's."""


def open_prompt_tokenizer(folder: Path) -> PromptTokenizer:
    """That of the base model in ``folder``: CLIP's, or of a language model.

    Raises:
        BaseModelError: its tokenizer or the configuration of a text encoder cannot be read.
    """
    from transformers import CLIPTokenizer, Qwen2Tokenizer

    try:
        configs = {
            file.parent.name: json.loads(file.read_bytes())
            for file in sorted(folder.glob("text_encoder*/config.json"))
        }
        reads = _LANGUAGE_MODELS.get(configs.get("text_encoder", {}).get("model_type", ""))
        kind = CLIPTokenizer if reads is None else Qwen2Tokenizer
        tokenizer = kind.from_pretrained(folder / "tokenizer", local_files_only=True)
        if reads is not None:
            return reads(tokenizer)
        clips = [c for c in configs.values() if "clip" in c.get("model_type", "clip")]
        positions = [config.get("max_position_embeddings", _CLIP_POSITIONS) for config in clips]
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
