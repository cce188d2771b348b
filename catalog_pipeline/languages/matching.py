"""A text in another language to the phrase that an English-only base reads in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.languages.encoder import SentenceEncoder
from catalog_pipeline.languages.english import as_typed_on_a_keyboard, folded, without_brackets
from catalog_pipeline.languages.vocabulary import Part, Vocabulary, read_vocabulary
from catalog_pipeline.languages.word_list import find_head, find_listed

Way = Literal["typed", "own", "set", "listed", "head", "matched", "unknown"]
"""How a text came to its phrase: it is English and stays as it is typed; the settings have it; a
person set it with the command; it is in the list of words; its head is; by the encoder; not."""

NEAREST = 3

_NEIGHBOURS = 10
_HUB_WEIGHT = 0.25
"""Words such as "ladle" lie near to everything that the encoder knows little of. A score is the
cosine less this share of what a phrase's mean cosine to its nearest neighbours has over average."""


@dataclass(frozen=True)
class Match:
    """What is read for ``text``.

    ``meaning`` is the English phrase for it, ``phrase`` what the prompt has: the same, or what
    stands in for it on this base. ``score`` is 1 where no encoder was asked;
    ``alternatives`` are the nearest other phrases, best first. An ``unknown`` text has neither
    meaning nor phrase, and ``score`` is that of the nearest alternative.
    """

    text: str
    phrase: str
    meaning: str
    score: float
    way: Way
    alternatives: tuple[tuple[str, float], ...] = ()


class Matcher:
    """Reads texts for one part of a prompt.

    Args:
        vocabulary: the phrases, and which the base knows.
        threshold: the least score of a match.
        language: what is tried first where a word is of several languages.
        open_encoder: called when a text first needs it; raises :class:`ConfigurationError`
            where the encoder is not installed.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        threshold: float,
        open_encoder: Callable[[], SentenceEncoder],
        language: str = "",
    ) -> None:
        self.vocabulary = vocabulary
        self._threshold = threshold
        self._open_encoder = open_encoder
        self._language = language

    def match(self, text: str) -> Match:
        """The phrase for ``text``, which is not English.

        Raises:
            ConfigurationError: the encoder is needed and not installed.
        """
        listed = self.match_listed(text) if self.vocabulary.part == "noun" else None
        return listed or self._match_encoded(text)

    def match_listed(self, text: str) -> Match | None:
        """The noun by the list of words alone; ``None`` where none of them is in ``text``."""
        word = folded(without_brackets(text))
        if (noun := find_listed(word, self._language)) is not None:
            return self._match(text, noun, 1.0, "listed")
        if (head := find_head(word, self._language)) is not None:
            return self._match(text, head[1], 1.0, "head")
        return None

    def nearest(self, text: str) -> list[tuple[str, float]]:
        """The phrases that the base knows nearest to ``text``, best first, each with its cosine.

        By spelling, with cosine 0, where the encoder is not installed.
        """
        known = self.vocabulary.known
        try:
            encoder = self._open_encoder()
        except ConfigurationError:
            return [(phrase, 0.0) for phrase in self.vocabulary.spelled_alike(folded(text))]
        if known is None:
            return _ranked(encoder, self.vocabulary.part, text)[:NEAREST]
        phrases, vectors = _encoded(encoder, tuple(sorted(known)))
        cosines = (encoder.encode([text]) @ vectors.T)[0]
        best = np.argsort(-cosines)[:NEAREST]
        stand_in = self.vocabulary.for_base(folded(text))
        found = {phrases[place]: float(cosines[place]) for place in best}
        if stand_in in known:  # chosen by a person: it goes first
            found = {stand_in: float(cosines[phrases.index(stand_in)]), **found}
        return list(found.items())[:NEAREST]

    def _match_encoded(self, text: str) -> Match:
        encoder = self._open_encoder()
        asked = as_typed_on_a_keyboard(without_brackets(text))
        ranked = _ranked(encoder, self.vocabulary.part, asked)
        phrase, score = ranked[0]
        if score < self._threshold or not encoder.reads(asked):
            return Match(text, "", "", score, "unknown", tuple(ranked[:NEAREST]))
        return self._match(text, phrase, score, "matched", tuple(ranked[1 : NEAREST + 1]))

    def _match(
        self,
        text: str,
        meaning: str,
        score: float,
        way: Way,
        others: tuple[tuple[str, float], ...] = (),
    ) -> Match:
        phrase = self.vocabulary.for_base(meaning)
        return Match(text, phrase, meaning, score, way, others)


def find_english_head(name: str, vocabulary: Vocabulary) -> str | None:
    """The noun in which an English name ends, ``Lagoon mug`` -> ``mug``; ``None`` without one."""
    by_word = {
        word: noun for noun, others in vocabulary.phrases.items() for word in (*others, noun)
    }
    words = folded(without_brackets(name)).split()
    for start in range(len(words)):
        phrase = " ".join(words[start:])
        for form in (phrase, phrase.removesuffix("s")):
            if form in by_word:
                return vocabulary.for_base(by_word[form])
            if form in (vocabulary.known or ()):
                return form
    return None


def _ranked(encoder: SentenceEncoder, part: Part, text: str) -> list[tuple[str, float]]:
    """Every phrase of ``part`` once, best first, with the score of its nearest wording."""
    owners, vectors, hubness = _wordings(encoder, part)
    scores = (encoder.encode([text]) @ vectors.T)[0] - _HUB_WEIGHT * hubness
    ranked: dict[str, float] = {}
    for place in np.argsort(-scores):
        ranked.setdefault(owners[place], min(1.0, float(scores[place])))
    return list(ranked.items())


@cache
def _wordings(
    encoder: SentenceEncoder, part: Part
) -> tuple[tuple[str, ...], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Owner, vector ``(wordings, 512)`` and hubness ``(wordings,)`` of every wording of ``part``.

    Hubness is the mean cosine to the nearest wordings of other phrases, its own mean taken off.
    """
    phrases = read_vocabulary(part).phrases
    pairs = [(phrase, word) for phrase, others in phrases.items() for word in (phrase, *others)]
    owners = tuple(phrase for phrase, _ in pairs)
    vectors = encoder.encode([word for _, word in pairs])
    cosines = vectors @ vectors.T
    names = np.array(owners)
    cosines[names[:, None] == names[None, :]] = -1  # its own other wordings are no neighbours
    hubs = np.sort(cosines, axis=1)[:, -_NEIGHBOURS:].mean(1)
    return owners, vectors, hubs - hubs.mean()


@cache
def _encoded(
    encoder: SentenceEncoder, phrases: Sequence[str]
) -> tuple[Sequence[str], npt.NDArray[np.float32]]:
    return phrases, encoder.encode(phrases)
