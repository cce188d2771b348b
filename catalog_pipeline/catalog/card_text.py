"""A card as text: what :func:`~catalog_pipeline.catalog.card.parse_card` reads, written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?: [A-Za-z0-9]+)*|[1-9][0-9]*(?:\.[0-9]+)?")
_ABSENT = frozenset({"null", "Null", "NULL"})
_CARD_COMMENT = (
    "# Written by catalog-pipeline import-feed, which leaves this file alone once it was edited.\n"
)


def encode_card(card: Mapping[str, Any]) -> bytes:
    """``sku.yaml`` with the keys of ``card``: text, lists of text and mappings of text."""
    lines = [f"{key}: {_yaml(value)}\n" for key, value in card.items()]
    return (_CARD_COMMENT + "".join(lines)).encode("utf-8")


def _yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if _BARE.fullmatch(value) and value not in _ABSENT:
        return str(value)
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
