"""Which texts count as English and are left as they are, and how texts are compared."""

from __future__ import annotations

import re
import unicodedata

_TYPESET = str.maketrans("\u2018\u2019\u2010\u2011\u2013\u2014\u2044", "''----/")
"""Quotes, dashes and the fraction bar as word processors set them, to what a keyboard has."""

_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|【[^【】]*】")


def as_typed_on_a_keyboard(text: str) -> str:
    """``text`` composed (NFKC), with a keyboard's quotes and dashes, in single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_TYPESET).split())


def folded(text: str) -> str:
    """``text`` as lists have it: as from a keyboard, in lower case."""
    return as_typed_on_a_keyboard(text).lower()


def is_plain(text: str) -> bool:
    """Whether ``text`` has no letter but a to z, so that an English-only base can read it.

    German or Spanish without accents is plain too: only a person who says so (``language`` of
    languages.yaml) has it read.
    """
    return not any(
        unicodedata.category(letter).startswith("L") and not letter.isascii()
        for letter in as_typed_on_a_keyboard(text)
    )


def without_brackets(text: str) -> str:
    """``text`` without what stands in brackets, ``椅子(大阪)`` -> ``椅子``; all if that is all."""
    return " ".join(_BRACKETS.sub(" ", as_typed_on_a_keyboard(text)).split()) or text
