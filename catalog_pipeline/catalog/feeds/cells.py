"""What stands in one cell of a feed: a list, a length, a SKU."""

from __future__ import annotations

import re
import unicodedata

from catalog_pipeline.catalog.keys import MAX_KEY_CHARS, key_problem
from catalog_pipeline.plain_text import shown

_LIST_SEPARATORS = ("\n", "|", ";", ",")
_LENGTH = re.compile(r"(?P<number>[0-9]+(?:[.,][0-9]+)?)\s*(?P<unit>[a-z\"\u2033\u201d']*)\.?")
_DECIMAL_COMMA = re.compile(r"[0-9]+,[0-9]{1,2}")
_CM = {
    **{"": 1.0, "cm": 1.0, "centimeter": 1.0, "centimeters": 1.0, "centimetre": 1.0},
    **{"centimetres": 1.0, "mm": 0.1, "m": 100.0},
    **dict.fromkeys(("in", "inch", "inches", '"', "\u2033", "\u201d", "''"), 2.54),
    **dict.fromkeys(("ft", "foot", "feet", "'"), 30.48),
}
_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9._-]+")


def split_list(cell: str) -> tuple[str, ...]:
    """The items of ``cell``: lines, else parted by ``|``, else by ``;``, else by ``,``.

    Only the first of these that occurs parts, so that a name with a comma can stand in a list
    of lines or bars.
    """
    text = cell.replace("\r\n", "\n").strip()
    for separator in _LIST_SEPARATORS:
        if separator in text:
            return tuple(item.strip() for item in text.split(separator) if item.strip())
    return (text,) if text else ()


def centimetres(cell: str, *, unit_required: bool = False) -> str:
    """``12``, ``12 cm``, ``9,5``, ``120 mm`` or ``4.7 in`` as the text of centimetres.

    Raises:
        ValueError: not such a length; the text says what was expected.
    """
    found = _LENGTH.fullmatch(cell.strip().lower())
    unit = found["unit"] if found else "?"
    number = found["number"] if found else ""
    if (
        unit not in _CM
        or (unit_required and not unit)
        or ("," in number and not _DECIMAL_COMMA.fullmatch(number))
    ):
        raise ValueError(
            f"{shown(cell)} is no length; expected a number with its unit such as "
            "'12 cm', '120 mm' or '4.7 in'"
        )
    value = float(number.replace(",", ".")) * _CM[unit]
    return f"{round(value, 4):g}" if value < 1e5 else str(round(value))


def sku_text(cell: str) -> str:
    """The SKU in ``cell``: without the apostrophe that spreadsheets put before digits."""
    text = cell.strip()
    return text[1:].strip() if text[:1] in ("'", "\u2019") else text


def sku_problem(sku: str) -> str:
    """Why ``sku`` cannot be one, with the nearest name that could; empty when it can."""
    problem = key_problem(sku)
    if problem is None:
        return ""
    fitting = fitting_key(sku)
    do = f"use {shown(fitting)}, say" if fitting else "give it a number or a name in such letters"
    return (
        f"{shown(sku)} cannot be a SKU: it {problem}; expected 1 to {MAX_KEY_CHARS} characters of "
        f"A-Z a-z 0-9 . _ - that begin with a letter or a digit; {do}"
    )


def fitting_key(name: str) -> str:
    """The nearest name that can be a key: accents dropped, all else a hyphen; may be empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = _NOT_IN_A_KEY.sub("-", plain.strip())
    slug = re.sub(r"\.{2,}", ".", re.sub(r"-{2,}", "-", slug)).strip("._-")
    return slug[:MAX_KEY_CHARS].rstrip("._-")
