"""Scenes and negative prompts of the settings, in the English that the base reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.languages.matching import Match
from catalog_pipeline.languages.vocabulary import Part
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.words import Words

_BETWEEN = re.compile(r"\s*[,;、，；]\s*")
"""What parts the things that a negative prompt lists."""


class PromptPiece(NamedTuple):
    """One text of the settings that goes into prompts, and where it stands."""

    file: str
    name: str
    part: Part
    text: str


def in_english(settings: Settings, words: Words) -> Settings:
    """``settings`` with scenes and negative prompts as the base reads them.

    English stays as it is, and so does everything for a base of many languages. A text that
    cannot be read stays too: :func:`require_read` says why before anything is made with it.
    """
    pieces = [*_of_generation(settings), *_of_learning(settings)]
    if all(words.leaves(piece.part, piece.text) for piece in pieces) or not words.english_only:
        return settings
    generation, learning = settings.generation, settings.learning
    scenes = tuple(
        scene.model_copy(
            update={
                "text": _read(words, "scene", scene.text),
                "negative_prompt": scene.negative_prompt
                and _read(words, "avoid", scene.negative_prompt),
            }
        )
        for scene in generation.scenes
    )
    negative = _read(words, "avoid", generation.negative_prompt)
    places = tuple(_read(words, "scene", text) for text in learning.scenes)
    read = generation.model_copy(update={"scenes": scenes, "negative_prompt": negative})
    learned = learning.model_copy(update={"scenes": places})
    return settings.model_copy(update={"generation": read, "learning": learned})


def require_read(written: Settings, words: Words, *, learning: bool = False) -> None:
    """Refuse a text of ``generation.yaml``, or of ``learning.yaml``, that the base cannot read.

    Args:
        written: the settings as they were typed.
        words: reads them.
        learning: of which file.

    Raises:
        ConfigurationError: names the text, and the phrases that are nearest to it.
    """
    for piece in _of_learning(written) if learning else _of_generation(written):
        for text in _parts(words, piece.part, piece.text):
            if words.leaves(piece.part, piece.text) or not words.english_only:
                continue
            match = words.read(piece.part, text, foreign=True)
            if match.way == "unknown":
                nearest = ", ".join(f"{phrase!r} ({s:.2f})" for phrase, s in match.alternatives)
                raise ConfigurationError(
                    f"{piece.file}: {piece.name}: {text!r} is like no phrase that is known, and "
                    f"the base reads English only; the nearest are {nearest}; write one of these, "
                    "or your own English for it into languages.yaml: words"
                )


def scene_notes(written: Settings, words: Words) -> list[str]:
    """What was read for each text of ``generation.yaml``, and which the base was not trained on."""
    notes: list[str] = []
    for piece in _of_generation(written):
        for text in _parts(words, piece.part, piece.text):
            notes += _notes_of(piece, text, words)
    return list(dict.fromkeys(notes))


def unknown_places(written: Settings, words: Words) -> list[str]:
    """A line for each scene that the base was not trained on, ``learning.yaml`` included."""
    pieces = [*_of_generation(written), *_of_learning(written)]
    lines = [
        line
        for piece in pieces
        if piece.part == "scene" and (line := _untrained(piece, _phrase(words, piece), words))
    ]
    return list(dict.fromkeys(lines))


def _notes_of(piece: PromptPiece, text: str, words: Words) -> Iterator[str]:
    phrase = text
    if not words.leaves(piece.part, piece.text) and words.english_only:
        match = words.read(piece.part, text, foreign=True)
        phrase = match.phrase
        if match.way == "typed":
            if match.alternatives:
                yield _left_as_typed(piece, text, match)
            return
        meaning = f", for {match.meaning!r}" if match.meaning != match.phrase else ""
        yield (
            f"{piece.name}: {text!r} is read as {phrase!r}{meaning} (score {match.score:.2f}, "
            f"{match.way})"
        )
    if line := _untrained(piece, phrase, words):
        yield line


def _left_as_typed(piece: PromptPiece, text: str, match: Match) -> str:
    nearest = ", ".join(f"{phrase!r} ({score:.2f})" for phrase, score in match.alternatives)
    return (
        f"{piece.name}: {text!r} is like no phrase that is known and stays as it is typed; the "
        f"nearest are {nearest}"
    )


def _untrained(piece: PromptPiece, phrase: str, words: Words) -> str:
    if piece.part != "scene" or not phrase or words.is_known("scene", phrase):
        return ""
    return (
        f"{piece.name}: the base was not trained on {phrase!r}; the nearest that it knows are "
        f"{words.nearest('scene', phrase)}"
    )


def _phrase(words: Words, piece: PromptPiece) -> str:
    try:
        return words.read(piece.part, piece.text).phrase
    except ConfigurationError:
        return ""  # require_read says why


def _read(words: Words, part: Part, text: str) -> str:
    """``text`` in English, as it is where it cannot be read."""
    if words.leaves(part, text):
        return text
    try:
        pieces = [words.read(part, each, foreign=True).phrase for each in _parts(words, part, text)]
    except ConfigurationError:
        return text
    return ", ".join(pieces) if all(pieces) else text


def _parts(words: Words, part: Part, text: str) -> list[str]:
    """The things that a negative prompt lists; any other text whole, and English ones too."""
    if part != "avoid" or words.leaves(part, text):
        return [text]
    return [piece for piece in _BETWEEN.split(text) if piece]


def _of_generation(settings: Settings) -> Iterator[PromptPiece]:
    file, generation = "generation.yaml", settings.generation
    for scene in generation.scenes:
        yield PromptPiece(file, f"scene {scene.name!r}", "scene", scene.text)
        if scene.negative_prompt:
            name = f"negative_prompt of scene {scene.name!r}"
            yield PromptPiece(file, name, "avoid", scene.negative_prompt)
    if generation.negative_prompt:
        yield PromptPiece(file, "negative_prompt", "avoid", generation.negative_prompt)


def _of_learning(settings: Settings) -> Iterator[PromptPiece]:
    for text in settings.learning.scenes:
        yield PromptPiece("learning.yaml", "scenes", "scene", text)
