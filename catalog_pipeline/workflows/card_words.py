"""What a person should know of the class nouns of cards: what was read, and what no base knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from catalog_pipeline.catalog.card import DEFAULT_CLASS_NOUN, default_card
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.languages.matching import Match
from catalog_pipeline.records import Sku
from catalog_pipeline.workflows.words import Words


def noun_warnings(cards: Sequence[Sku], words: Words) -> tuple[str, ...]:
    """A line for each card whose noun is a guess, unknown or missing; by SKU.

    Nouns that stand in the list of words or in the vocabulary need no line.
    """
    ordered = sorted(cards, key=lambda card: card.sku)
    return tuple(f"{card.sku}: {line}" for card in ordered for line in _lines(card, words))


def untrained_noun(noun: str, words: Words) -> str:
    """What is to be said of an English noun that the base was not trained on; else nothing."""
    if noun == DEFAULT_CLASS_NOUN or words.is_known("noun", noun):
        return ""
    return (
        f"the base was not trained on the class noun {noun!r}; the nearest that it knows are "
        f"{words.nearest('noun', noun)}"
    )


def _lines(card: Sku, words: Words) -> Iterator[str]:
    if not card.typed_noun:
        if (found := _suggestion(card, words)) is not None:
            yield (
                f"no class noun; the name {found.text!r} suggests {found.phrase!r}: write "
                f"`class_noun: {found.phrase}` into its card, or another"
            )
        return
    try:
        match = words.read("noun", card.typed_noun)
    except ConfigurationError:
        return  # the card itself is refused for it
    if match.way == "unknown":
        nearest = ", ".join(f"{phrase} ({score:.2f})" for phrase, score in match.alternatives)
        yield (
            f"class_noun {card.typed_noun!r} is like no noun that is known, and "
            f"{card.class_noun!r} is used; the nearest are {nearest or 'not known'}: write one of "
            f"these, or `catalog-pipeline vocabulary --set {card.typed_noun}=NOUN`"
        )
        return
    if match.way == "typed" and match.alternatives:
        nearest = ", ".join(f"{phrase} ({score:.2f})" for phrase, score in match.alternatives)
        yield (
            f"class_noun {card.typed_noun!r} is like no noun that is known and stays as it is "
            f"typed; the nearest are {nearest}"
        )
        return
    if match.way == "matched":
        others = ", ".join(f"{phrase} ({score:.2f})" for phrase, score in match.alternatives)
        yield (
            f"class_noun {card.typed_noun!r} is read as {match.phrase!r} (score "
            f"{match.score:.2f}{'; next ' + others if others else ''}); if that is wrong, "
            f"`catalog-pipeline vocabulary --set {card.typed_noun}=NOUN`"
        )
    if line := untrained_noun(card.class_noun, words):
        yield line


def _suggestion(card: Sku, words: Words) -> Match | None:
    """By the names that the card gives; a folder's name is a key, not a description."""
    name = "" if card.name == default_card(card.sku).name else card.name
    return words.suggest(card.names, name)
