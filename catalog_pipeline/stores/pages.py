"""Concepts of a version in shared pages, so that a version costs a page and not the catalog.

A page is one immutable JSON object of about 128 neighbouring concepts with the parts
that bear their name, stored under its SHA-256. Where a page ends depends on the SKU
alone: learning, replacing or removing a SKU rewrites the page it is in and the last one,
and every other page is shared with the version before. The same version gives the
same pages, whatever came before it. A reader takes pages of any length: earlier releases
ended one after about 16.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.stores.keys import sha256_hex

PAGE_SCHEMA_VERSION = 2
CONCEPTS_PER_PAGE = 128
"""Expected; docs/stores.md has the bytes and times of other sizes."""

_LONGEST_PAGE = 4 * CONCEPTS_PER_PAGE

JsonConcept = Mapping[str, Any]


def encode_pages(
    concepts: Sequence[JsonConcept], parts: Mapping[str, str]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Pages by SHA-256 in the order of ``concepts``, and the parts that no concept owns.

    A concept owns the parts ``<kind>/<its sku>``.
    """
    left = dict(parts)
    owned: dict[str, dict[str, str]] = {}
    known = {concept["sku"] for concept in concepts}
    for name in sorted(parts):
        kind, _, sku = name.partition("/")
        if sku in known:
            owned.setdefault(sku, {})[kind] = left.pop(name)
    pages = {}
    for group in _groups(concepts):
        entries = [{"concept": dict(c), "parts": owned.pop(c["sku"], {})} for c in group]
        content = {"schema_version": PAGE_SCHEMA_VERSION, "concepts": entries}
        lines = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        data = lines.encode() + b"\n"
        pages[sha256_hex(data)] = data
    return pages, left


def page_entries(data: bytes) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The concepts of a page of :func:`encode_pages`, and their parts.

    Raises:
        ValueError, KeyError, TypeError: it is no page.
    """
    entries = json.loads(data)["concepts"]
    parts = {
        f"{kind}/{entry['concept']['sku']}": sha256
        for entry in entries
        for kind, sha256 in entry["parts"].items()
    }
    return [entry["concept"] for entry in entries], parts


def parts_in_page(data: bytes) -> set[str]:
    """The SHA-256 of every part that a page names; IntegrityError when it is no page."""
    try:
        entries = json.loads(data)["concepts"]
        return {str(digest) for entry in entries for digest in entry["parts"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{len(data)} bytes are not a page of concepts ({error})") from error


def _groups(concepts: Sequence[JsonConcept]) -> Iterator[Sequence[JsonConcept]]:
    start = 0
    for end, concept in enumerate(concepts, 1):
        if _ends_a_page(concept["sku"]) or end - start == _LONGEST_PAGE:
            yield concepts[start:end]
            start = end
    if start < len(concepts):
        yield concepts[start:]


def _ends_a_page(sku: str) -> bool:
    return int(sha256_hex(sku.encode())[:8], 16) % CONCEPTS_PER_PAGE == 0
