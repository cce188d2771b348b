"""Text conditioning with placeholder tokens that live outside the base vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AddedToken

from catalog_pipeline.diffusion.prompts import PromptTokenizer, shorten_prompt
from catalog_pipeline.errors import PromptError


def placeholder_tokens(sku: str, count: int) -> tuple[str, ...]:
    """The ``count`` vocabulary entries of ``sku``: ``<sku:0>``, ``<sku:1>``, ..."""
    return tuple(f"<{sku}:{index}>" for index in range(count))


class PlaceholderEmbedding(nn.Module):
    """The base token table, followed by one learnable row per placeholder token.

    Ids below ``base.num_embeddings`` read the frozen table; ids from there on
    read ``rows``. The table itself is never copied, resized or trained, so a
    prompt without placeholders is encoded bit for bit as by the base.

    Where several text encoders read a prompt, a row holds a vector for each: their tables
    share the rows of the ``first`` one, and each reads its own ``columns``.
    """

    def __init__(
        self,
        base: nn.Embedding,
        columns: slice = slice(None),
        first: PlaceholderEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.base = base
        self.rows: nn.ParameterDict = nn.ParameterDict() if first is None else first.rows
        self._ids: dict[str, int] = {} if first is None else first._ids
        self._columns = columns

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
        embeddings: Tensor = self.base(input_ids.clamp(max=known - 1))
        if not self._ids or not bool((input_ids >= known).any()):
            return embeddings
        # Only the rows that are read: a row that no prompt names gets no gradient at all, so
        # that the momentum of an optimiser leaves it where it is.
        present = input_ids[input_ids >= known].unique()  # sorted
        table = torch.stack([self.rows[_key(i)][self._columns] for i in present.tolist()])
        places = torch.searchsorted(present, input_ids.clamp(min=known))
        new = table[places.clamp(max=len(present) - 1)]  # (batch, tokens, width)
        return torch.where((input_ids >= known)[..., None], new.to(embeddings.dtype), embeddings)


def _key(token_id: int) -> str:
    return f"token_{token_id}"


class TextConditioner:
    """Prompts -> encoder hidden states of a CLIP text encoder, with placeholders understood.

    Owns the hooks on the text encoders; one conditioner a base model. Of several encoders
    that read the same ids, a token's row holds a vector for each, in their order. A family
    that encodes otherwise overrides what differs.
    """

    def __init__(self, tokenizer: Any, *text_encoders: Any) -> None:
        self.tokenizer = tokenizer
        self.prompts = PromptTokenizer(
            tokenizer, *(e.config.max_position_embeddings for e in text_encoders)
        )
        self._text_encoders = text_encoders
        self._tables: list[PlaceholderEmbedding] = []
        start = 0
        for encoder in text_encoders:
            base = encoder.get_input_embeddings()
            if isinstance(base, PlaceholderEmbedding):
                raise ValueError("this base model already has a text conditioner; share it")
            columns = slice(start, start + base.embedding_dim)
            table = PlaceholderEmbedding(base, columns, self._tables[0] if self._tables else None)
            encoder.set_input_embeddings(table)
            self._tables.append(table)
            start = columns.stop

    @property
    def table(self) -> PlaceholderEmbedding:
        """Where placeholder tokens are registered, and where their rows are."""
        return self._tables[0]

    @property
    def length(self) -> int:
        """Tokens of every encoded prompt, padding counted."""
        return self.prompts.length

    def initial_vector(self, words: str) -> Tensor:
        """Mean base embedding of ``words``, ``(width,)``: where a new token starts."""
        ids = self.tokenizer(words, add_special_tokens=False).input_ids
        return torch.cat([table.base.weight[ids].mean(0) for table in self._tables])

    def load(self, tokens: Mapping[str, Tensor]) -> None:
        """Register every ``token -> vector (width,)``.

        Raises:
            ValueError: a vector of another width, as of another base.
        """
        width = sum(table.base.embedding_dim for table in self._tables)
        for token, vector in tokens.items():
            if vector.shape != (width,):
                raise ValueError(f"{token} has shape {tuple(vector.shape)}, expected ({width},)")
            self.table.add(token, vector.to(self.table.base.weight.device))

    def input_ids(self, prompts: Sequence[str]) -> Tensor:
        """``(batch, max_length)`` ids: start, words and placeholders, padding as the base pads.

        Raises:
            PromptError: a prompt that would be cut, or that names an unknown placeholder.
        """
        tokenizer = self.tokenizer
        rows = []
        for prompt in prompts:
            ids = [self._id_of(token, prompt) for token in self.prompts.tokens(prompt)]
            ids = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
            if len(ids) > self.length:
                raise PromptError(
                    f"the prompt {shorten_prompt(prompt)} has {len(ids)} tokens, and the base's "
                    f"text encoder reads {self.length}; shorten what it is made of: class_noun in "
                    "the product's card, the scene's text, or negative_prompt"
                )
            rows.append(ids + [tokenizer.pad_token_id] * (self.length - len(ids)))
        return torch.tensor(rows, device=self.table.base.weight.device)

    def _id_of(self, token: str | int, prompt: str) -> int:
        if isinstance(token, int):
            return token
        try:
            return self.table.id_of(token)
        except KeyError as error:
            raise PromptError(
                f"the prompt {shorten_prompt(prompt)} names the token {token}, which stands for "
                "no product that is loaded; expected plain words, or a product's own tokens"
            ) from error

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """``encoder_hidden_states`` (batch, tokens, width), differentiable in the placeholders."""
        encoder_hidden_states = self._text_encoders[0](self.input_ids(prompts))[0]
        assert isinstance(encoder_hidden_states, Tensor)
        return encoder_hidden_states

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Where the tokens of ``phrase`` first stand in ``prompt``; start token counted.

        Raises:
            ValueError: the prompt does not hold the phrase.
            PromptError: the prompt would be cut.
        """
        row = self.input_ids([prompt])[0].tolist()
        wanted = self.input_ids([phrase])[0].tolist()
        wanted = wanted[1 : wanted.index(self.tokenizer.eos_token_id)]
        for start in range(1, len(row) - len(wanted) + 1):
            if row[start : start + len(wanted)] == wanted:
                return tuple(range(start, start + len(wanted)))
        raise ValueError(
            f"the prompt {shorten_prompt(prompt)} does not hold '{phrase}'; expected it as "
            "written, since attention is read where it stands"
        )


def add_tokens(tokenizer: Any, text_encoder: Any, rows: Mapping[str, Tensor]) -> None:
    """Add ``token -> row (width,)`` to the vocabulary and to the token table, in place.

    Tokens are taken as they are written: two that differ in case stay two.

    Raises:
        ValueError: a token is in the vocabulary already.
    """
    known = tokenizer.get_vocab()
    taken = sorted(token for token in rows if token in known)
    if taken:
        raise ValueError(
            f"the base's vocabulary already holds {', '.join(taken)}; expected none of the "
            "concept's placeholder tokens; rename the product's folder"
        )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in rows])
    size = max(len(tokenizer), text_encoder.get_input_embeddings().num_embeddings)
    text_encoder.resize_token_embeddings(size, mean_resizing=False)
    table = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        for token, row in rows.items():
            table[tokenizer.convert_tokens_to_ids(token)] = row.to(table)
