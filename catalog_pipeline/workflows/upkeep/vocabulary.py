"""List and change what words in other languages are read as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.languages.english import is_plain
from catalog_pipeline.languages.matching import Match
from catalog_pipeline.languages.vocabulary import Part
from catalog_pipeline.workflows.home import Home

SOURCES: Mapping[str, str] = {
    "typed": "typed, stays as it is",
    "own": "languages.yaml",
    "set": "set by hand",
    "listed": "list of words",
    "head": "list of words, its head",
    "matched": "encoder",
    "unknown": "unknown",
}
"""Where a match comes from, for people."""


@dataclass(frozen=True)
class WordEntry:
    """One text and what is read for it; ``kept`` once it is stored, ``note`` what to know."""

    part: Part
    match: Match
    kept: bool
    note: str = ""

    @property
    def source(self) -> str:
        """Where the match comes from, for people."""
        return SOURCES[self.match.way]


def read_words(home: Home, part: Part, texts: Sequence[str]) -> list[WordEntry]:
    """What each of ``texts`` is read as; keeps nothing.

    Raises:
        ConfigurationError: the encoder is needed and not installed.
    """
    return [_entry(home, part, text) for text in texts]


def kept_words(home: Home) -> list[WordEntry]:
    """Everything that is kept, and the settings' own words, by part and text."""
    places = home.words.vocabulary("scene")
    own = [
        ("scene" if places.holds(phrase) else "noun", text)
        for text, phrase in home.written.languages.words.items()
    ]
    kept = [(part, text) for part, texts in sorted(home.words.kept.items()) for text in texts]
    parts: dict[str, Part] = {"noun": "noun", "scene": "scene", "avoid": "avoid"}
    pairs = dict.fromkeys((*own, *kept))
    return [_entry(home, parts[part], text) for part, text in pairs if part in parts]


def set_word(home: Home, part: Part, text: str, phrase: str) -> tuple[WordEntry | None, list[str]]:
    """Read ``text`` as ``phrase`` from now on; an empty phrase forgets it.

    Returns:
        The new entry, ``None`` where it was forgotten; the SKUs whose class noun was the one
        that was read before: those whose card has ``text`` are learned anew when asked for.

    Raises:
        ConfigurationError: ``phrase`` is not English, or languages.yaml has its own for ``text``.
    """
    if not text.strip() or not is_plain(phrase):
        raise ConfigurationError(
            f"got {text!r} = {phrase!r}; expected WORD=PHRASE with an English phrase, such as "
            "急須=teapot, or WORD= to forget a word"
        )
    if home.words.leaves(part, text):
        raise ConfigurationError(
            f"{text!r} is in plain letters, and stays as it is typed; put {text}: {phrase} into "
            "languages.yaml: words, or set its language there"
        )
    if home.words.is_own(text):
        raise ConfigurationError(
            f"languages.yaml: words has {text!r} already, and goes first; change it there"
        )
    before = home.words.set(part, text, phrase.strip().lower() if part == "noun" else phrase)
    rows = home.index.read() if before is not None and part == "noun" else []
    skus = [row.sku for row in rows if before and row.class_noun == (before.phrase or "product")]
    return (_entry(home, part, text) if phrase else None), skus


def _entry(home: Home, part: Part, text: str) -> WordEntry:
    words = home.words
    match = words.read(part, text)
    kept = text in words.kept.get(part, {})
    known = not match.phrase or words.is_known(part, match.phrase)
    note = "" if known else f"the base was not trained on it; nearest {_nearest(home, part, match)}"
    return WordEntry(part, match, kept, note)


def _nearest(home: Home, part: Part, match: Match) -> str:
    return home.words.nearest(part, match.phrase)
