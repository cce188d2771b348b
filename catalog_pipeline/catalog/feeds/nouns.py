"""A class noun from what a shop calls the type of a product."""

from __future__ import annotations

import re

from catalog_pipeline.catalog.card import MAX_NOUN_CHARS, MAX_NOUN_WORDS
from catalog_pipeline.plain_text import shown

_PLAIN_WORDS = re.compile(r"[a-z]+(?:['-][a-z]+)*(?: [a-z]+(?:['-][a-z]+)*)*")

_ALWAYS_PLURAL = frozenset(
    (
        *("binoculars", "clothes", "dungarees", "earbuds", "earphones", "eyeglasses", "goggles"),
        *("headphones", "jeans", "leggings", "overalls", "pajamas", "pants", "pliers", "pyjamas"),
        *("scissors", "series", "shorts", "species", "stairs", "sunglasses", "tights", "tongs"),
        *("trousers", "tweezers"),
    )
)
_IRREGULAR = {
    **{plural: plural[:-1] for plural in ("beanies", "brownies", "cookies", "hoodies", "movies")},
    **{plural: plural[:-1] for plural in ("onesies", "selfies", "smoothies", "ties", "pies")},
    **{"knives": "knife", "leaves": "leaf", "loaves": "loaf", "scarves": "scarf"},
    **{"shelves": "shelf", "bookshelves": "bookshelf", "lenses": "lens", "potatoes": "potato"},
    **{"tomatoes": "tomato", "buses": "bus", "teeth": "tooth", "feet": "foot", "mice": "mouse"},
}
_ES = ("ches", "shes", "sses", "xes")
_NO_PLURAL = ("ss", "us", "is")


def noun_of_type(text: str) -> tuple[str, str]:
    """The class noun that the product type ``text`` gives, and else why it gives none.

    ``Home & Garden > Kitchen > Mugs`` -> ``mug``: the last part, in lower case, its last word
    in the singular. Only one to five plain English words (a-z, hyphen, apostrophe) make a noun: a
    part such as ``Mugs & Cups`` names several kinds of thing, a number none, and another
    language is for people to translate.
    """
    last = text.rpartition(">")[2].strip()
    words = " ".join(last.lower().replace("\u2019", "'").split())
    if not words:
        return "", f"{shown(text)} names no kind of product"
    if not _PLAIN_WORDS.fullmatch(words):
        return "", f"{shown(last)} is not one kind of product in plain English words"
    if len(words.split()) > MAX_NOUN_WORDS or len(words) > MAX_NOUN_CHARS:
        return "", f"{shown(last)} is longer than {MAX_NOUN_WORDS} words"
    before, space, word = words.rpartition(" ")
    return before + space + singular(word), ""


def singular(word: str) -> str:
    """The singular of one English word in lower case, by its ending.

    A table of the usual exceptions goes first; then ``-ies`` (of more than four letters) is
    ``-y``, ``-ches -shes -sses -xes`` lose ``es``, ``-ss -us -is`` stay, any other ``-s`` goes.
    """
    first, hyphen, last = word.rpartition("-")
    if last in _ALWAYS_PLURAL or last.endswith(_NO_PLURAL):
        return word
    if last in _IRREGULAR:
        return first + hyphen + _IRREGULAR[last]
    if last.endswith("ies") and len(last) > 4:
        return word[:-3] + "y"
    if last.endswith(_ES):
        return word[:-2]
    return word[:-1] if last.endswith("s") and len(last) > 2 and last[-2] != "'" else word
