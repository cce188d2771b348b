"""The JSON form of an :class:`AdapterVersion`, and the hash that names it.

Schema 1 is one object that lists every concept and part. Schema 2
keeps them in pages (:mod:`catalog_pipeline.stores.pages`) and names the pages. The
hash is over the same content in both, so a version has one name in either schema. Schema 3
is 2 with ``imported_from`` in a concept; a version without such a concept is written as 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.records import AdapterVersion, Concept
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.pages import encode_pages, page_entries

VERSION_SCHEMA_VERSION = 3
_SCHEMA_WITHOUT_IMPORTS = 2
_HASH_DIGITS = 16
_NOT_HASHED = {"version", "created_utc", "metrics"}
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def version_hash(version: AdapterVersion) -> str:
    """The name of a version: 16 hex digits over all that determines its pictures.

    Left out are ``version`` itself, ``created_utc`` and every ``metrics``: learning
    the same photos again on the same machine gives the same name. Use as
    ``replace(draft, version=version_hash(draft))``.
    """
    content = _content(version)
    return _hash(content, _hashed_concepts(content.pop("concepts")))


@dataclass(frozen=True)
class EncodedVersion:
    """The bytes of a version: its record, and the pages that the record names, by SHA-256."""

    record: bytes
    pages: Mapping[str, bytes]


def encode_version(version: AdapterVersion) -> EncodedVersion:
    """JSON bytes, keys sorted; the pages are to be stored before the record.

    Raises:
        StoreError: ``created_utc`` has no time zone, or a metric is not a float.
    """
    if version.created_utc.tzinfo is None:
        raise StoreError(
            f"version {version.version} was created at {version.created_utc.isoformat()} without "
            "a time zone; expected an aware UTC time"
        )
    content = _content(version)
    imported = any(concept.imported_from for concept in version.concepts)
    try:
        pages, parts = encode_pages(content.pop("concepts"), content.pop("parts"))
        record = {
            "schema_version": VERSION_SCHEMA_VERSION if imported else _SCHEMA_WITHOUT_IMPORTS,
            **content,
            "pages": list(pages),
            "parts": parts,
        }
        text = json.dumps(record, sort_keys=True, ensure_ascii=False, indent=2)
    except TypeError as error:
        raise StoreError(
            f"version {version.version} cannot be written as JSON: {error}; metrics must be "
            "plain Python floats"
        ) from error
    return EncodedVersion(text.encode() + b"\n", pages)


@dataclass(frozen=True)
class Page:
    """A page as its versions need it, so that what they share is decoded once.

    ``hashed`` is the JSON of the concepts as :func:`version_hash` reads it, without brackets.
    """

    concepts: tuple[Concept, ...]
    parts: Mapping[str, str]
    hashed: str


def decode_page(data: bytes) -> Page:
    """A page of :func:`encode_version`, whose bytes were checked before.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no page.
    """
    concepts, parts = page_entries(data)
    return Page(_concepts(concepts), parts, _hashed_concepts(concepts))


def decode_version(
    data: bytes, version: str, what: str, page: Callable[[str], Page]
) -> AdapterVersion:
    """The record of :func:`encode_version`, of any schema; ``what`` names the file in errors.

    ``page`` gives a page by its SHA-256. The hash is taken over the JSON as it is stored:
    a record from before a field existed keeps its name.

    Raises:
        IntegrityError: not such a record, or it does not hash to ``version``.
        ObjectNotFoundError: a page is missing.
        StoreError: written by a newer version of this program.
    """
    try:
        content = _parsed(data, what)
        if "pages" in content:
            pages = [page(digest) for digest in content.pop("pages")]
            concepts = tuple(concept for page in pages for concept in page.concepts)
            content["parts"] = dict(content["parts"])
            for each in pages:
                content["parts"].update(each.parts)
            hashed = ",".join(each.hashed for each in pages)
        else:
            stored = content.pop("concepts")
            concepts, hashed = _concepts(stored), _hashed_concepts(stored)
        found = _hash(content, hashed)
        created = datetime.fromisoformat(content["created_utc"])
        record = AdapterVersion(**{**content, "concepts": concepts, "created_utc": created})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{what} is not an adapter version ({error}); restore it or roll back to another one"
        ) from error
    if found != version or record.version != version:
        raise IntegrityError(
            f"{what} was altered: it hashes to {found}, expected {version}; restore it or roll "
            "back to another version"
        )
    return record


@dataclass(frozen=True)
class References:
    """The SHA-256 of all that a stored record names itself; pages name more parts."""

    pages: tuple[str, ...]
    parts: tuple[str, ...]


def decode_references(data: bytes, what: str) -> References:
    """What the record ``data`` of any schema names, without reading its pages.

    Raises:
        IntegrityError: not a version record.
        StoreError: written by a newer version of this program.
    """
    try:
        content = _parsed(data, what)
        pages = tuple(str(digest) for digest in content.get("pages", ()))
        return References(pages, tuple(str(digest) for digest in content["parts"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{what} is not an adapter version ({error}); restore it or roll back to another one"
        ) from error


def _parsed(data: bytes, what: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(data)
    schema_version = int(content.pop("schema_version"))
    if schema_version > VERSION_SCHEMA_VERSION:
        raise StoreError(
            f"{what} has schema version {schema_version}; this program reads up to "
            f"{VERSION_SCHEMA_VERSION}: upgrade catalog-pipeline"
        )
    return content


def _hash(content: Mapping[str, Any], concepts: str) -> str:
    """Over the canonical JSON of ``content`` with ``concepts``, from :func:`_hashed_concepts`."""
    texts = {key: _canonical(content[key]) for key in content.keys() - _NOT_HASHED}
    texts["concepts"] = f"[{concepts}]"
    members = ",".join(f"{_canonical(key)}:{texts[key]}" for key in sorted(texts))
    return sha256_hex(f"{{{members}}}".encode())[:_HASH_DIGITS]


def _hashed_concepts(concepts: Sequence[Mapping[str, Any]]) -> str:
    identity = [{key: each[key] for key in each.keys() - {"metrics"}} for each in concepts]
    return _canonical(identity)[1:-1]


def _concepts(stored: Sequence[Mapping[str, Any]]) -> tuple[Concept, ...]:
    return tuple(
        Concept(**{**each, "placeholder_tokens": tuple(each["placeholder_tokens"])})
        for each in stored
    )


def _concept(concept: Concept) -> dict[str, Any]:
    """Without what only imported concepts have: the others keep the JSON and names they had."""
    content = {field.name: getattr(concept, field.name) for field in fields(concept)}
    if not concept.imported_from:
        del content["imported_from"]
    return content | {"metrics": dict(concept.metrics)}


def _content(version: AdapterVersion) -> dict[str, Any]:
    concepts = [_concept(concept) for concept in version.concepts]
    return {
        "version": version.version,
        "collection": version.collection,
        "parent": version.parent,
        "concepts": concepts,
        "base_model_hash": version.base_model_hash,
        "config_hash": version.config_hash,
        "parts": dict(version.parts),
        "memory_version": version.memory_version,
        "code_version": version.code_version,
        "seed": version.seed,
        "created_utc": version.created_utc.astimezone(UTC).isoformat(),
        "metrics": dict(version.metrics),
    }
