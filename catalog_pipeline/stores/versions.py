"""The JSON form of an :class:`AdapterVersion`, and the hash that names it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.records import AdapterVersion, Concept
from catalog_pipeline.stores.contract import sha256_hex

VERSION_SCHEMA_VERSION = 1
_HASH_DIGITS = 16
_NOT_HASHED = {"version", "created_utc", "metrics"}


def version_hash(version: AdapterVersion) -> str:
    """The name of a version: 16 hex digits over all that determines its pictures.

    Left out are ``version`` itself, ``created_utc`` and every ``metrics``: learning
    the same photos again on the same machine gives the same name. Use as
    ``replace(draft, version=version_hash(draft))``.
    """
    return _hash(_content(version))


def encode_version(version: AdapterVersion) -> bytes:
    """JSON bytes, keys sorted.

    Raises:
        StoreError: ``created_utc`` has no time zone, or a metric is not a float.
    """
    if version.created_utc.tzinfo is None:
        raise StoreError(
            f"version {version.version} was created at {version.created_utc.isoformat()} without "
            "a time zone; expected an aware UTC time"
        )
    content = {"schema_version": VERSION_SCHEMA_VERSION, **_content(version)}
    try:
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=2)
    except TypeError as error:
        raise StoreError(
            f"version {version.version} cannot be written as JSON: {error}; metrics must be "
            "plain Python floats"
        ) from error
    return text.encode() + b"\n"


def decode_version(data: bytes, version: str, what: str) -> AdapterVersion:
    """The record of :func:`encode_version`; ``what`` names the file in errors.

    The hash is taken over the JSON as it is stored: a record from before a field
    existed keeps its name.

    Raises:
        IntegrityError: not such a record, or it does not hash to ``version``.
        StoreError: written by a newer version of this program.
    """
    try:
        content = json.loads(data)
        schema_version = int(content.pop("schema_version"))
        if schema_version > VERSION_SCHEMA_VERSION:
            raise StoreError(
                f"{what} has schema version {schema_version}; this program reads up to "
                f"{VERSION_SCHEMA_VERSION}: upgrade catalog-pipeline"
            )
        found = _hash(content)
        record = _record(content)
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


def _hash(content: Mapping[str, Any]) -> str:
    identity = {key: content[key] for key in content.keys() - _NOT_HASHED}
    identity["concepts"] = [
        {key: concept[key] for key in concept.keys() - {"metrics"}}
        for concept in content["concepts"]
    ]
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return sha256_hex(text.encode())[:_HASH_DIGITS]


def _content(version: AdapterVersion) -> dict[str, Any]:
    concepts = [
        {field.name: getattr(concept, field.name) for field in fields(concept)}
        | {"metrics": dict(concept.metrics)}
        for concept in version.concepts
    ]
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


def _record(content: Mapping[str, Any]) -> AdapterVersion:
    concepts = tuple(
        Concept(**{**concept, "placeholder_tokens": tuple(concept["placeholder_tokens"])})
        for concept in content["concepts"]
    )
    created = datetime.fromisoformat(content["created_utc"])
    return AdapterVersion(**{**content, "concepts": concepts, "created_utc": created})
