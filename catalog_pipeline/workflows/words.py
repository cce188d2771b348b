"""Words in other languages, read once and kept with the home."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import cast

from catalog_pipeline.base_model import EMBEDDED_VOCABULARY, EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.prompt_languages import reads_english_only
from catalog_pipeline.languages.encoder import open_encoder
from catalog_pipeline.languages.english import as_typed_on_a_keyboard, folded, is_plain
from catalog_pipeline.languages.matching import Match, Matcher, Way, find_english_head
from catalog_pipeline.languages.vocabulary import (
    KnownPhrases,
    Part,
    Vocabulary,
    read_known_phrases,
    read_vocabulary,
)
from catalog_pipeline.languages.word_list import find_listed
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.matches import KeptMatch, Matches, MatchStore
from catalog_pipeline.stores.objects import ObjectStore

UNKNOWN_NOUN = "product"
"""The class noun of a word that nothing is near to: general, and so only a little wrong."""

PARTS: tuple[Part, ...] = ("noun", "scene", "avoid")


class Words:
    """Reads texts for one home.

    In this order: the settings' own ``words``; English, which stays as it is typed; what was
    kept; the list of words; the encoder. Opens store and encoder when a text first needs them.
    """

    def __init__(self, settings: Settings, objects: Callable[[], ObjectStore]) -> None:
        self._settings = settings
        self._objects = objects
        self._own = {folded(text): phrase for text, phrase in settings.languages.words.items()}
        self._new: dict[Part, dict[str, Match]] = {part: {} for part in PARTS}

    def read(self, part: Part, text: str, *, foreign: bool = False) -> Match:
        """What is read for ``text``; not kept before :meth:`keep`.

        A ``foreign`` one stands among words of another language, so that plain letters alone
        do not make it English.

        Raises:
            ConfigurationError: the encoder is needed and not installed, or the settings switch
                reading off.
        """
        typed = as_typed_on_a_keyboard(text)
        if (own := self._own.get(folded(text))) is not None:
            return Match(text, own, own, 1.0, "own")
        if self.leaves(part, text, foreign=foreign):
            return Match(text, text, text, 1.0, "typed")
        match = self._read_once(part, text, typed)
        if match.way == "unknown" and is_plain(text):  # most likely English, in other words
            return Match(text, text, text, 1.0, "typed", match.alternatives)
        return match

    def leaves(self, part: Part, text: str, *, foreign: bool = False) -> bool:
        """Whether ``text`` stays as it is typed; opens neither store nor encoder."""
        if folded(text) in self._own:
            return False
        return not self._settings.languages.enabled or self._is_english(part, text, foreign)

    def is_own(self, text: str) -> bool:
        """Whether the settings have their own phrase for ``text``."""
        return folded(text) in self._own

    def noun(self, text: str) -> str:
        """The class noun for what a card has: the seam that :mod:`catalog_pipeline.catalog` takes.

        Raises:
            ConfigurationError: as :meth:`read`.
        """
        return self.read("noun", text).phrase or UNKNOWN_NOUN

    def keep(self) -> None:
        """Store what was read since, so that it is read so for ever. Idempotent.

        A noun that nothing is near to is kept as such: a product that was learned as a mere
        ``product`` is not learned anew because a later list has its word.
        """
        if not any(self._new.values()):
            return
        new: Matches = {
            part: {
                text: self._kept(part, match)
                for text, match in self._new[part].items()
                if match.phrase or part == "noun"
            }
            for part in PARTS
        }
        self.kept = self._store.update(lambda old: _joined(new, old))
        self._new = {part: {} for part in PARTS}

    def set(self, part: Part, text: str, phrase: str) -> KeptMatch | None:
        """Keep ``phrase`` for ``text``; an empty one forgets the text. What was kept before."""
        typed = as_typed_on_a_keyboard(text)
        before = self.kept.get(part, {}).get(typed)
        chosen = Match(typed, phrase, phrase, 1.0, "set")
        new: Matches = {part: {typed: self._kept(part, chosen)}} if phrase else {}

        def change(old: Matches) -> Matches:
            others = {t: kept for t, kept in old.get(part, {}).items() if t != typed}
            return _joined({**old, part: others}, new)

        self.kept = self._store.update(change)
        return before

    def is_known(self, part: Part, phrase: str) -> bool:
        """Whether the base was trained on ``phrase``; always of a base without bounds."""
        return self.vocabulary(part).is_known(folded(phrase))

    def nearest(self, part: Part, text: str) -> str:
        """The nearest phrases that the base knows, for a message."""
        found = self._matcher(part).nearest(text)
        return ", ".join(f"{p} ({score:.2f})" if score else p for p, score in found)

    def suggest(self, names: Mapping[str, str], name: str) -> Match | None:
        """The noun that a product's names speak of; ``None`` where they say nothing clear."""
        vocabulary = self.vocabulary("noun")
        for text in dict.fromkeys([names.get("en", ""), name, *names.values()]):
            if text and is_plain(text) and (head := find_english_head(text, vocabulary)):
                return Match(text, head, head, 1.0, "head")
        others = [text for text in (name, *names.values()) if text and not is_plain(text)]
        for text in dict.fromkeys(others):
            if (listed := self._matcher("noun").match_listed(text)) is not None:
                return listed
        return None

    @cached_property
    def english_only(self) -> bool:
        """Whether scenes in other languages have to be read for the base."""
        base = self._settings.base_model.base_model
        folder = EMBEDDED_WEIGHTS if base == "embedded" else Path(base).expanduser()
        return self._settings.languages.enabled and reads_english_only(folder)

    @cached_property
    def kept(self) -> Matches:
        """What was read before."""
        return self._store.read()

    def vocabulary(self, part: Part) -> Vocabulary:
        """The phrases of ``part``, and which of them the base knows."""
        return read_vocabulary(part, self._known)

    @cached_property
    def _known(self) -> KnownPhrases | None:
        own = self._settings.languages.vocabulary
        if own is not None:
            path = own.expanduser()
            return read_known_phrases(self._settings.config_dir / path)
        embedded = self._settings.base_model.base_model == "embedded"
        return read_known_phrases(EMBEDDED_VOCABULARY) if embedded else None

    @cached_property
    def _store(self) -> MatchStore:
        return MatchStore(self._objects())

    def _read_once(self, part: Part, text: str, typed: str) -> Match:
        if (kept := self.kept.get(part, {}).get(typed)) is not None:
            way = cast(Way, kept.way)
            return Match(text, kept.phrase, kept.meaning, kept.score, way, kept.alternatives)
        if typed not in self._new[part]:
            self._new[part][typed] = self._matcher(part).match(typed)
        return replace(self._new[part][typed], text=text)

    def _is_english(self, part: Part, text: str, foreign: bool) -> bool:
        if not is_plain(text):
            return False
        language = self._settings.languages.language
        if language == "en" and not foreign:
            return True
        word = folded(text)
        if part == "noun" and language != "en" and find_listed(word, language, only=True):
            return False
        return self.vocabulary(part).holds(word)

    def _matcher(self, part: Part) -> Matcher:
        languages = self._settings.languages
        threshold = languages.threshold if part == "noun" else languages.scene_threshold
        return Matcher(self.vocabulary(part), threshold, open_encoder, languages.language)

    def _kept(self, part: Part, match: Match) -> KeptMatch:
        asked = match.way in ("matched", "unknown")
        return KeptMatch(
            phrase=match.phrase,
            meaning=match.meaning,
            score=round(match.score, 4),
            way=match.way,
            vocabulary=self.vocabulary(part).sha256,
            encoder=open_encoder().version if asked else "",
            alternatives=tuple((phrase, round(score, 4)) for phrase, score in match.alternatives),
        )


def _joined(first: Matches, over: Matches) -> Matches:
    """Both; where both have a text, what ``over`` has."""
    parts = sorted({*first, *over})
    joined = {part: {**first.get(part, {}), **over.get(part, {})} for part in parts}
    return {part: texts for part, texts in joined.items() if texts}
