"""Text conditioning with placeholder tokens that live outside the base vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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


class TextConditioner(ABC):
    """Prompts -> ``encoder_hidden_states``; one conditioner a base model.

    A prompt names a product by its placeholder tokens. Whether these are new rows of the
    text encoder's table that are learned, or stand for words, says the family.
    """

    prompts: PromptTokenizer
    reading: Callable[[], AbstractContextManager[None]] = nullcontext
    """A context in which the text encoders may be used."""

    @property
    def length(self) -> int:
        """Positions of every encoded prompt, padding counted."""
        return self.prompts.length

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """``encoder_hidden_states`` (batch, tokens, width), differentiable in learned rows.

        Raises:
            PromptError: a prompt that would be cut, or that names an unknown placeholder.
        """

    @abstractmethod
    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Where the tokens of ``phrase`` first stand among the positions of ``prompt``.

        Raises:
            ValueError: the prompt does not hold the phrase.
            PromptError: the prompt would be cut.
        """

    def start(self, tokens: Sequence[str], noun: str, generator: torch.Generator) -> None:
        """Register ``tokens`` of a product that is to be learned, where ``noun`` stands."""
        del tokens, noun, generator

    def parameters_of(self, tokens: Sequence[str]) -> list[nn.Parameter]:
        """The learned row ``(width,)`` of each of ``tokens``; none where they stand for words."""
        del tokens
        return []

    def rows_of(self, count: int) -> int:
        """How many rows a product of ``count`` tokens has."""
        del count
        return 0

    def rows_of_words(self, words: str) -> list[Tensor]:
        """Rows ``(width,)`` with which placeholder tokens read as ``words``; none without rows."""
        del words
        return []

    def load(self, tokens: Mapping[str, Tensor]) -> None:
        """Register every ``token -> vector (width,)``.

        Raises:
            ValueError: a vector of another width, as of another base.
        """
        if tokens:
            raise ValueError(f"{', '.join(tokens)} have rows, and this base learns none")


class PlaceholderConditioner(TextConditioner):
    """Placeholder tokens are rows of the tables of CLIP text encoders.

    Owns the hooks on the text encoders. Of several encoders
    that read the same ids, a token's row holds a vector for each, in their order. A family
    that encodes otherwise overrides what differs.
    """

    def __init__(
        self, tokenizer: Any, *text_encoders: Any, pad_ids: Sequence[int] | None = None
    ) -> None:
        """``pad_ids`` are what each encoder reads behind a prompt; default the tokenizer's."""
        self.tokenizer = tokenizer
        self._pad_ids = tuple(pad_ids or [tokenizer.pad_token_id] * len(text_encoders))
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

    def start(self, tokens: Sequence[str], noun: str, generator: torch.Generator) -> None:
        """All tokens but the first start slightly apart from ``noun``, else they stay twins."""
        with self.reading():
            start = self.initial_vector(noun).clone()
        for index, token in enumerate(tokens):
            noise = torch.randn(start.shape, generator=generator).to(start.device)
            self.table.add(token, start + (0.02 * noise if index else 0 * noise))

    def parameters_of(self, tokens: Sequence[str]) -> list[nn.Parameter]:
        """The row of each token."""
        return [self.table.parameter_of(token) for token in tokens]

    def rows_of(self, count: int) -> int:
        """One a token."""
        return count

    def initial_vector(self, words: str) -> Tensor:
        """Mean base embedding of ``words``, ``(width,)``: where a new token starts."""
        ids = self.tokenizer(words, add_special_tokens=False).input_ids
        return torch.cat([table.base.weight[ids].mean(0) for table in self._tables])

    def rows_of_words(self, words: str) -> list[Tensor]:
        """One a token of the vocabulary."""
        ids = self.tokenizer(words, add_special_tokens=False).input_ids
        return list(torch.cat([table.base.weight[ids] for table in self._tables], 1).detach())

    def load(self, tokens: Mapping[str, Tensor]) -> None:
        """Every vector holds one for each encoder."""
        width = sum(table.base.embedding_dim for table in self._tables)
        for token, vector in tokens.items():
            if vector.shape != (width,):
                raise ValueError(f"{token} has shape {tuple(vector.shape)}, expected ({width},)")
            with self.reading():
                self.table.add(token, vector.to(self.table.base.weight.device))

    def encode_each(self, prompts: Sequence[str]) -> list[Any]:
        """What each text encoder gives, its hidden states among it."""
        with self.reading():
            return [
                encoder(self.input_ids(prompts, pad), output_hidden_states=True)
                for encoder, pad in zip(self._text_encoders, self._pad_ids, strict=True)
            ]

    def input_ids(self, prompts: Sequence[str], pad_id: int | None = None) -> Tensor:
        """``(batch, max_length)`` ids: start, words and placeholders, padding as the base pads.

        Raises:
            PromptError: a prompt that would be cut, or that names an unknown placeholder.
        """
        tokenizer = self.tokenizer
        pad_id = self._pad_ids[0] if pad_id is None else pad_id
        rows = []
        for prompt in prompts:
            ids = [self._id_of(token, prompt) for token in self.prompts.tokens(prompt)]
            ids = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
            if len(ids) > self.prompts.length:
                raise too_long(prompt, len(ids), self.prompts.length)
            rows.append(ids + [pad_id] * (self.prompts.length - len(ids)))
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
        """The last hidden state of the one encoder."""
        with self.reading():
            encoder_hidden_states = self._text_encoders[0](self.input_ids(prompts))[0]
        assert isinstance(encoder_hidden_states, Tensor)
        return encoder_hidden_states

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """The start token counts."""
        row = self.input_ids([prompt])[0].tolist()
        wanted = self.input_ids([phrase])[0].tolist()
        wanted = wanted[1 : wanted.index(self.tokenizer.eos_token_id)]
        for start in range(1, len(row) - len(wanted) + 1):
            if row[start : start + len(wanted)] == wanted:
                return tuple(range(start, start + len(wanted)))
        raise not_held(prompt, phrase)


def too_long(prompt: str, tokens: int, length: int) -> PromptError:
    """Of a prompt of which the text encoder would not read the end."""
    return PromptError(
        f"the prompt {shorten_prompt(prompt)} has {tokens} tokens, and the base's text encoder "
        f"reads {length}; shorten what it is made of: class_noun in the product's card, the "
        "scene's text, or negative_prompt"
    )


def not_held(prompt: str, phrase: str) -> ValueError:
    """Of a prompt in which a product's words are to be found."""
    return ValueError(
        f"the prompt {shorten_prompt(prompt)} does not hold '{phrase}'; expected it as written, "
        "since attention is read where it stands"
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
