"""A learned collection, published without any learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from catalog_pipeline.records import AdapterVersion, Concept
from catalog_pipeline.stores.adapters import version_hash


def promote(
    store: Any, collection: str, concepts: list[Concept], parts: Mapping[str, str], base: str
) -> None:
    draft = AdapterVersion(
        version="",
        collection=collection,
        parent=None,
        concepts=tuple(concepts),
        base_model_hash=base,
        config_hash="config",
        parts=parts,
        memory_version="",
        code_version="0.1.0",
        seed=0,
        created_utc=datetime(2026, 3, 1, tzinfo=UTC),
    )
    version = replace(draft, version=version_hash(draft))
    store.publish(version)
    with store.lease(timeout_seconds=1) as lease:
        store.promote(version.version, expected=None, fence=lease.fence)
