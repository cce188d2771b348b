"""A byte-pair vocabulary learned from the captions, in the form of a CLIP tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from catalog_pipeline.base_model.training.presets import MAX_TOKENS

START, END = "<|startoftext|>", "<|endoftext|>"
_END_OF_WORD = "</w>"


def train_tokenizer(captions: Iterable[str], vocabulary_limit: int) -> Any:
    """A ``CLIPTokenizer`` whose merges are learned from ``captions``.

    Ids, in CLIP's own order: the 256 byte symbols, the same with the end-of-word
    mark (so any text in any script has tokens), merges by frequency, start, end;
    the end token also pads and stands for the unknown. At most
    ``vocabulary_limit`` ids besides start and end. Equal captions, equal ids.
    """
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols += [symbol + _END_OF_WORD for symbol in symbols]
    learner = Tokenizer(models.BPE(end_of_word_suffix=_END_OF_WORD))
    clip = CLIPTokenizer().backend_tokenizer
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_limit,
        end_of_word_suffix=_END_OF_WORD,
        # Symbols given up front get their ids in this order; the trainer would
        # otherwise number them, and break ties between merges, by chance.
        special_tokens=symbols,
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    learned = json.loads(learner.to_str())["model"]
    words = [*sorted(learned["vocab"], key=learned["vocab"].__getitem__), START, END]
    vocabulary = {word: index for index, word in enumerate(words)}
    merges: Any = [tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def tokenize(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Ids ``(captions, MAX_TOKENS)``, int64: start, words, end, padding; long captions are cut."""
    encoded = tokenizer(
        list(captions), padding="max_length", truncation=True, max_length=MAX_TOKENS
    )
    return torch.tensor(encoded["input_ids"], dtype=torch.int64)
