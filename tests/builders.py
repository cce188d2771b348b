"""Records with sensible values; a test names only the fields that it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from catalog_pipeline.records import (
    AdapterVersion,
    ArchiveRow,
    Concept,
    IndexRow,
    Photo,
    Region,
    RenderJob,
    SkuStatus,
)
from catalog_pipeline.stores.adapters import AdapterStore, Head, version_hash

NIGHT = date(2026, 3, 1)
MOMENT = datetime(2026, 3, 1, 2, 30, 0, 123456, tzinfo=UTC)


def make_photos(
    count: int, side: int | tuple[int, int], *, seed: int = 0, sku: str = "", masked: bool = False
) -> tuple[Photo, ...]:
    """Photos of noise, ``side`` or ``(height, width)`` px; a mask is the middle half each way."""
    height, width = (side, side) if isinstance(side, int) else side
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 255
    return tuple(
        Photo(
            f"{sku}{index}.jpg",
            f"{sku}{index}",
            rng.integers(0, 255, (height, width, 3), dtype=np.uint8),
            mask if masked else None,
        )
        for index in range(count)
    )


def make_concept(sku: str, task: int = 0, **changes: Any) -> Concept:
    """A learned mug of two placeholder tokens."""
    fields: dict[str, Any] = {
        "name": f"Product {sku}",
        "class_noun": "mug",
        "category": "kitchen",
        "placeholder_tokens": (f"<{sku}:0>", f"<{sku}:1>"),
        "photos_hash": f"photos of {sku}",
    }
    return Concept(sku=sku, task=task, **(fields | changes))


def make_adapter_version(*concepts: Concept, **changes: Any) -> AdapterVersion:
    """A version of these concepts without a parent, named by its content."""
    fields: dict[str, Any] = {
        "collection": "default",
        "parent": None,
        "base_model_hash": "base",
        "config_hash": "config",
        "parts": {},
        "memory_version": "memory",
        "code_version": "0.1.0",
        "seed": 0,
        "created_utc": MOMENT,
    }
    draft = AdapterVersion(version="", concepts=concepts, **(fields | changes))
    return replace(draft, version=version_hash(draft))


def next_version(
    parent: AdapterVersion | None, concept: Concept, part: str, **changes: Any
) -> AdapterVersion:
    """``parent`` with ``concept``, whose weights lie in ``part``, learned one task further."""
    kept = tuple(c for c in parent.concepts if c.sku != concept.sku) if parent else ()
    parts = {**(parent.parts if parent else {}), f"concept/{concept.sku}": part}
    above = parent.version if parent else None
    return make_adapter_version(*kept, concept, parent=above, parts=parts, **changes)


def promote(store: AdapterStore, version: AdapterVersion) -> Head:
    """Publish and promote, as a learning run does."""
    store.publish(version)
    head = store.head()
    with store.lease(timeout_seconds=5) as lease:
        expected = head.version if head else None
        return store.promote(version.version, expected=expected, fence=lease.fence)


def make_index_row(sku: str, **changes: Any) -> IndexRow:
    """A new SKU of four photos."""
    fields: dict[str, Any] = {
        "collection": "default",
        "name": f"Product {sku}",
        "class_noun": "mug",
        "category": "kitchen",
        "content_hash": f"photos of {sku}",
        "learned_hash": "",
        "photo_count": 4,
        "bytes": 4096,
        "first_seen_utc": MOMENT,
        "newest_modified_utc": MOMENT,
        "status": SkuStatus.NEW,
    }
    return IndexRow(sku=sku, **(fields | changes))


def make_archive_row(image_id: str, *skus: str, **changes: Any) -> ArchiveRow:
    """A picture of ``skus`` (by default of a pair) as a night without a judge would store it."""
    named = skus or ("00123", "マグ")
    fields: dict[str, Any] = {
        "path": f"images/sha256={image_id}.png",
        "sha256": image_id,
        "day": NIGHT,
        "job_id": image_id,
        "prompt": f"{' and '.join(named)} on a sandy beach",
        "skus": named,
        "layout": "single" if len(named) == 1 else "left_right",
        "seed": 7,
        "sampler": "dpmsolver++",
        "steps": 20,
        "guidance": 4.0,
        "width": 128,
        "height": 128,
        "base_model_hash": "base",
        "collection": "default",
        "adapter_version": "0123456789abcdef",
        "memory_version": "memory",
        "scores": {f"fidelity/{sku}": 0.5 / (1 + place) for place, sku in enumerate(named)},
        "superseded": False,
        "created_utc": MOMENT,
        "schema_version": 1,
    }
    return ArchiveRow(image_id=image_id, **(fields | changes))


def make_render_job(*skus: str, **changes: Any) -> RenderJob:
    """A small picture of ``skus`` side by side on a sandy beach."""
    share = 1 / len(skus)
    fields: dict[str, Any] = {
        "job_id": "-".join(skus),
        "day": NIGHT,
        "template": "beach",
        "prompt": f"{' and '.join(skus)} on a sandy beach",
        "scene": "on a sandy beach",
        "regions": tuple(Region(i * share, 0, (i + 1) * share, 1) for i in range(len(skus))),
        "layout": "left_right",
        "seed": 7,
        "sampler": "dpmsolver++",
        "steps": 2,
        "guidance": 2.0,
        "width": 16,
        "height": 16,
        "negative_prompt": "",
        "collection": "default",
        "adapter_version": "v",
    }
    return RenderJob(skus=skus, **(fields | changes))
