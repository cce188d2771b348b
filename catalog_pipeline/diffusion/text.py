"""Text conditioning with placeholder tokens that live outside the base vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.base import BaseModel

_PLACEHOLDER = re.compile(r"(<[A-Za-z0-9][A-Za-z0-9._-]*:\d+>)")


def placeholder_tokens(sku: str, count: int) -> tuple[str, ...]:
    """The ``count`` vocabulary entries of ``sku``: ``<sku:0>``, ``<sku:1>``, ..."""
    return tuple(f"<{sku}:{index}>" for index in range(count))


class PlaceholderEmbedding(nn.Module):
    """The base token table, followed by one learnable row per placeholder token.

    Ids below ``base.num_embeddings`` read the frozen table; ids from there on
    read ``rows``. The table itself is never copied, resized or trained, so a
    prompt without placeholders is encoded bit for bit as by the base.
    """

    def __init__(self, base: nn.Embedding) -> None:
        super().__init__()
        self.base = base
        self.rows = nn.ParameterDict()
        self._ids: dict[str, int] = {}

    def add(self, token: str, vector: Tensor) -> int:
        """Register ``token`` with ``vector`` ``(width,)``; returns its id."""
        if token not in self._ids:
            self._ids[token] = self.base.num_embeddings + len(self._ids)
        self.rows[_key(self._ids[token])] = nn.Parameter(vector.detach().clone())
        return self._ids[token]

    def id_of(self, token: str) -> int:
        """The id of a registered placeholder token; ``KeyError`` when unknown."""
        return self._ids[token]

    def parameter_of(self, token: str) -> nn.Parameter:
        """The learnable row of ``token``, ``(width,)``."""
        return self.rows[_key(self._ids[token])]

    def forward(self, input_ids: Tensor) -> Tensor:
        """``(batch, tokens)`` ids -> ``(batch, tokens, width)``."""
        known = self.base.num_embeddings
        hidden = self.base(input_ids.clamp(max=known - 1))
        if not self._ids or not bool((input_ids >= known).any()):
            return hidden
        # Only the rows that are read: a row that no prompt names gets no gradient at all, so
        # that the momentum of an optimiser leaves it where it is.
        present = input_ids[input_ids >= known].unique()  # sorted
        table = torch.stack([self.rows[_key(i)] for i in present.tolist()])
        places = torch.searchsorted(present, input_ids.clamp(min=known))
        new = table[places.clamp(max=len(present) - 1)]  # (batch, tokens, width)
        return torch.where((input_ids >= known)[..., None], new.to(hidden.dtype), hidden)


def _key(token_id: int) -> str:
    return f"token_{token_id}"


class TextConditioner:
    """Prompts -> encoder hidden states, with placeholders understood.

    Owns the hook on the base's text encoder; one conditioner a base model.
    """

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        embeddings = _embeddings_of(base.text_encoder)
        if isinstance(embeddings.token_embedding, PlaceholderEmbedding):
            raise ValueError("this base model already has a text conditioner; share it")
        self.table = PlaceholderEmbedding(embeddings.token_embedding)
        embeddings.token_embedding = self.table

    @property
    def length(self) -> int:
        """Tokens of every encoded prompt, padding counted."""
        return int(self._base.tokenizer.model_max_length)

    def initial_vector(self, words: str) -> Tensor:
        """Mean base embedding of ``words``, ``(width,)``: where a new token starts."""
        ids = self._base.tokenizer(words, add_special_tokens=False).input_ids
        return self.table.base.weight[torch.tensor(ids, device=self._base.device)].mean(0)

    def load(self, tokens: Mapping[str, Tensor]) -> None:
        """Register every ``token -> vector (width,)``."""
        for token, vector in tokens.items():
            self.table.add(token, vector.to(self._base.device))

    def input_ids(self, prompts: Sequence[str]) -> Tensor:
        """``(batch, max_length)`` ids: start, words and placeholders, padding as the base pads."""
        tokenizer = self._base.tokenizer
        length = self.length
        rows = []
        for prompt in prompts:
            ids: list[int] = []
            for piece in _PLACEHOLDER.split(prompt):
                if _PLACEHOLDER.fullmatch(piece):
                    ids.append(self.table.id_of(piece))
                elif piece.strip():
                    ids.extend(tokenizer(piece.strip(), add_special_tokens=False).input_ids)
            ids = [tokenizer.bos_token_id, *ids[: length - 2], tokenizer.eos_token_id]
            rows.append(ids + [tokenizer.pad_token_id] * (length - len(ids)))
        return torch.tensor(rows, device=self._base.device)

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Hidden states ``(batch, tokens, width)``, differentiable in the placeholder rows."""
        hidden = self._base.text_encoder(self.input_ids(prompts))[0]
        assert isinstance(hidden, Tensor)
        return hidden

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Where the tokens of ``phrase`` first stand in ``prompt``; start token counted.

        Raises:
            ValueError: the prompt, cut to the encoder's length, does not hold the phrase.
        """
        row = self.input_ids([prompt])[0].tolist()
        wanted = self.input_ids([phrase])[0].tolist()
        wanted = wanted[1 : wanted.index(self._base.tokenizer.eos_token_id)]
        for start in range(1, len(row) - len(wanted) + 1):
            if row[start : start + len(wanted)] == wanted:
                return tuple(range(start, start + len(wanted)))
        raise ValueError(
            f"'{phrase}' is not in the first {len(row)} tokens of the prompt '{prompt}'; "
            "shorten the scene, or name the product earlier"
        )


def _embeddings_of(text_encoder: Any) -> Any:
    inner = getattr(text_encoder, "text_model", text_encoder)
    return inner.embeddings
