"""The nouns and places that captions of the corpus have, of which the base knows the look.

``python -m catalog_pipeline.base_model.training.vocabulary`` prints ``base_model/vocabulary.yaml``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.base_model.training.emoji import thing_nouns
from catalog_pipeline.studio.backgrounds import BACKGROUNDS
from catalog_pipeline.studio.families import FAMILIES

CLOTHING = """
blazer, blouse, dress, hat, hoodie, jacket, long sleeve shirt, pair of shoes, pair of shorts, pants,
polo, shirt, skirt, t-shirt
"""
"""What clothing-dataset-small shows, as captions call it."""

GROCERIES = """
apple, asparagus, avocado, banana, brown cap mushroom, cabbage, cantaloupe, carrots, cucumber,
garlic, ginger, grapefruit, honeydew melon, juice carton, kiwi, leek, lemon, lime, mango,
milk carton, nectarine, oat milk carton, onion, orange, papaya, passion fruit, peach, pear, plum,
pomegranate, potato, red beet, sour milk carton, soy milk carton, tomato, yoghurt pack, zucchini
"""
"""What GroceryStoreDataset shows, brands and varieties left out."""

OTHER_EMOJI_NAMES = """
basketball, camel, dove, eggplant, flashlight, flute, folding hand fan, goose, jellyfish, laptop,
loudspeaker, maracas, megaphone, moose, pizza, puzzle piece, red paper lantern, running shoe,
running shirt, skis, sunglasses
"""
"""What the captions of the shipped weights call emoji that Unicode names otherwise."""

_HEADER = """\
# What the embedded base was trained on: nouns of products, and places in which they stand.
# Printed by
#   python -m catalog_pipeline.base_model.training.vocabulary
# Its text encoder has every word of these as one token; other words fall into letters.
"""


def trained_nouns(tokenizer: Path) -> list[str]:
    """Nouns of the corpus, sorted, whose every word is one token of ``tokenizer`` (a JSON file)."""
    tokens = json.loads(tokenizer.read_text("utf-8"))["model"]["vocab"]
    words = {token.removesuffix("</w>") for token in tokens if token.endswith("</w>")}
    listed = ",".join((OTHER_EMOJI_NAMES, CLOTHING, GROCERIES))
    nouns = {*FAMILIES, *thing_nouns(), *(" ".join(noun.split()) for noun in listed.split(","))}
    return sorted(noun for noun in nouns if all(word in words for word in _words(noun)))


def _words(noun: str) -> Iterator[str]:
    """As a CLIP tokenizer parts them: letters, single digits, runs of signs."""
    yield from re.findall(r"'s|[a-z]+|\d|[^\sa-z\d]+", noun)


def vocabulary_text() -> str:
    """The whole of ``vocabulary.yaml``."""
    content = {
        "nouns": trained_nouns(EMBEDDED_WEIGHTS / "tokenizer" / "tokenizer.json"),
        "scenes": sorted(BACKGROUNDS),
    }
    return _HEADER + yaml.safe_dump(content, allow_unicode=True)


if __name__ == "__main__":
    print(vocabulary_text(), end="")
