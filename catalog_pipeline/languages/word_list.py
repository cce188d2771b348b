"""Words of five languages for the nouns: what is listed needs no encoder.

A name that ends in a listed word is a thing of that kind where the language puts the head last
(``ラグーンマグ`` is a マグ, a ``Holzstuhl`` a Stuhl); French and Spanish names begin with theirs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from catalog_pipeline.languages.english import folded

LANGUAGES = ("ja", "de", "fr", "es", "zh")
"""The columns of ``word_list.txt``, behind the noun."""

_HEAD_LAST, _HEAD_FIRST = ("ja", "zh", "de"), ("fr", "es")
_FEWEST_LETTERS = {"ja": 2, "zh": 2, "de": 4}
"""A shorter word at the end of a longer one may be a mere syllable of it."""


@cache
def read_word_list() -> Mapping[str, Mapping[str, str]]:
    """Language -> word -> noun, every word folded."""
    words: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    lines = (Path(__file__).parent / "word_list.txt").read_text("utf-8").splitlines()
    for line in lines:
        if line.startswith("#"):
            continue
        noun, *columns = line.split(" = ")
        for language, column in zip(LANGUAGES, columns, strict=True):
            for word in column.split(", "):
                words[language][folded(word)] = noun
    return words


def find_listed(text: str, language: str = "", *, only: bool = False) -> str | None:
    """The noun of the word ``text`` (folded) in ``language``, else in whichever has it.

    ``only`` the one language is looked at where the caller says so.
    """
    words = read_word_list()
    names = [language] if only else sorted(LANGUAGES, key=lambda name: name != language)
    for name in names:
        if text in words[name]:
            return words[name][text]
    return None


def find_head(text: str, language: str = "") -> tuple[str, str] | None:
    """The word of which ``text`` (folded) names a kind, and its noun; the longest there is."""
    words = read_word_list()
    found = [
        (word, words[name][word])
        for name in sorted(LANGUAGES, key=lambda name: name != language)
        for word in _heads(text, name)
        if word in words[name]
    ]
    return max(found, key=lambda pair: len(pair[0]), default=None)


def _heads(text: str, language: str) -> Iterator[str]:
    """Where the head of ``text`` may be, were it in ``language``; the whole text is none."""
    if language in _HEAD_FIRST:
        parts = text.split(" ")
        for count in range(1, len(parts)):
            yield " ".join(parts[:count])
        return
    if language in _HEAD_LAST:
        fewest = _FEWEST_LETTERS[language]
        for start in range(1, len(text)):
            word = text[start:]
            parted = _script(text[start - 1]) != _script(text[start])
            if len(word) >= fewest or (parted and _script(word) == "CJK"):
                yield word.strip()


def _script(text: str) -> str:
    """``HIRAGANA``, ``KATAKANA``, ``CJK``, ``LATIN``, ... of the first letter."""
    return unicodedata.name(text[0], "?").partition(" ")[0].partition("-")[0]
