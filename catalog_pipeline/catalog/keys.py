"""Which names can be keys: a SKU or a collection becomes part of paths, URLs and run keys."""

from __future__ import annotations

import re

from catalog_pipeline.errors import ConfigurationError, InvalidSkuError
from catalog_pipeline.plain_text import shown

MAX_KEY_CHARS = 63
_SLUG = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_KEY_CHARS - 1}}}")


def validate_sku(name: str) -> str:
    """``name`` itself when it can be a SKU; it stays a string, so ``00123`` keeps its zeros.

    Raises:
        InvalidSkuError: says what was got (escaped), what was expected, and what to do.
    """
    problem = key_problem(name)
    if problem is None:
        return name
    raise InvalidSkuError(
        f"{shown(name)} cannot be a SKU: it {problem}; expected 1 to {MAX_KEY_CHARS} characters "
        "of A-Z a-z 0-9 . _ - that begin with a letter or a digit; rename the folder, and put "
        f"{_where_a_name_belongs(name)}"
    )


def validate_collection(name: str) -> str:
    """``name`` itself when it can be a collection: the same rule as for a SKU.

    Raises:
        ConfigurationError: says what was got (escaped), what was expected, and what to do.
    """
    problem = key_problem(name)
    if problem is None:
        return name
    raise ConfigurationError(
        f"collection {shown(name)} {problem}; expected 1 to {MAX_KEY_CHARS} characters of "
        "A-Z a-z 0-9 . _ - that begin with a letter or a digit; choose such a name"
    )


def key_problem(name: str) -> str | None:
    """What keeps ``name`` from being a key, after "it ..."; ``None`` when nothing does."""
    if not name:
        return "is empty"
    if len(name) > MAX_KEY_CHARS:
        return f"has {len(name)} characters"
    if ".." in name:
        return "holds '..', which could leave the catalog"
    if not name.isascii():
        return "holds a character outside ASCII"
    if not _SLUG.fullmatch(name):
        return "begins with or holds a character that is not allowed"
    return None


def _where_a_name_belongs(name: str) -> str:
    """Where the name that people read goes; the Japanese case is spelled out."""
    if any("\u3040" <= character <= "\u9fff" for character in name):
        return f"the name itself into its sku.yaml (in Japanese: names: {{ja: {shown(name)}}})"
    return "the name that people read into its sku.yaml (name: ...)"
