"""The published columns: each with its type, and in words what it holds.

The words travel in the Parquet files as field metadata ``description``, and the data
dictionary is made of them. Every column has a value in every row, unless it says null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from catalog_pipeline.records import Source

INDEX_SCHEMA_VERSION = 2
"""Raised whenever a column of the index is added, removed or changes its meaning. Version 2 added
``learned_version`` and what is after it."""

MANIFEST_SCHEMA_VERSION = 6
"""Likewise of the manifest. Version 2 added ``attempts`` and ``verdict``, version 3 ``mode`` and
what belongs to it, version 4 ``plan_hash`` and what is after it, version 5 ``sources``, version 6
``pixels_sha256``."""

LEARNING_SCHEMA_VERSION = 1
"""Likewise of the learning log."""

_UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")

SIDES = ("left", "top", "right", "bottom")
_BOX = pa.struct([pa.field(side, pa.int32(), nullable=False) for side in SIDES])
"""Pixels; right and bottom are exclusive."""

_SOURCE = pa.struct([pa.field(name, pa.string(), nullable=False) for name in Source._fields])

_TEXT_MAP = pa.map_(pa.string(), pa.string())
_FIGURES = pa.map_(pa.string(), pa.float64())
_NULL = "; null"
"""How the words of a column end that may be null."""

Column = tuple[str, pa.DataType, str]


def table_schema(name: str, version: int, grain: str, columns: Sequence[Column]) -> pa.Schema:
    """A schema of ``columns``: name, type, and in words what it holds and if it may be null."""
    return pa.schema(
        [
            pa.field(column, kind, nullable=_NULL in words, metadata={"description": words.strip()})
            for column, kind, words in columns
        ],
        metadata={"schema_name": name, "schema_version": str(version), "grain": grain},
    )


INDEX_SCHEMA = table_schema(
    "catalog_index",
    INDEX_SCHEMA_VERSION,
    "one row per SKU ever seen, sorted by sku",
    [
        ("sku", pa.string(), "name of the product's folder"),
        ("collection", pa.string(), "the collection that its card names"),
        ("name", pa.string(), "what people call the product"),
        ("class_noun", pa.string(), "what the base model knows it as"),
        ("category", pa.string(), "of its card; empty where there is none"),
        ("content_hash", pa.string(), "SHA-256 over names and bytes of photos and card, as listed"),
        ("learned_hash", pa.string(), "content_hash of what was learned last; empty before"),
        ("photo_count", pa.int32(), "photos listed"),
        ("bytes", pa.int64(), "of the photos listed"),
        ("first_seen_utc", _UTC_MICROSECONDS, "when a listing first found the folder"),
        ("newest_modified_utc", _UTC_MICROSECONDS, "of the newest file of the folder"),
        ("status", pa.string(), "new, changed, learned, failed or retired"),
        ("reason", pa.string(), "why it failed and what to do; empty otherwise"),
        ("learned_version", pa.string(), "adapter version that learned it last; empty before"),
        ("learned_utc", _UTC_MICROSECONDS, "when that was; null before"),
        ("photos_used", pa.int32(), "photos that were learned from, of the last attempt"),
        ("left_out", _TEXT_MAP, "photo -> why the last attempt did not use it"),
    ],
)
"""``catalog/index.parquet``."""

MANIFEST_SCHEMA = table_schema(
    "image_manifest",
    MANIFEST_SCHEMA_VERSION,
    "one row per image_id, sorted by it",
    [
        ("image_id", pa.string(), "id of the picture: the job_id that it was made for"),
        ("path", pa.string(), "of the PNG, relative to the home"),
        ("sha256", pa.string(), "of the PNG file, metadata and signature included"),
        ("day", pa.date32(), "the night"),
        ("job_id", pa.string(), "hash of every field of the plan that changes the picture"),
        ("prompt", pa.string(), "the scene in words, with the products' names"),
        (
            "skus",
            pa.list_(pa.field("element", pa.string(), nullable=False)),
            "products that the picture names, from left to right",
        ),
        ("layout", pa.string(), "how they stand"),
        ("seed", pa.int64(), "of the attempt that was kept"),
        ("sampler", pa.string(), "the solver"),
        ("steps", pa.int32(), "denoising steps"),
        ("guidance", pa.float64(), "classifier-free guidance"),
        ("width", pa.int32(), "pixels"),
        ("height", pa.int32(), "pixels"),
        ("base_model_hash", pa.string(), "of the frozen base"),
        ("collection", pa.string(), "whose version rendered it; across several, the leftmost"),
        ("adapter_version", pa.string(), "version of the collection that rendered it"),
        ("memory_version", pa.string(), "hash of what that version remembers"),
        ("scores", _FIGURES, "measured figures; those of one product end in /<sku>"),
        ("superseded", pa.bool_(), "true: no longer asked for, or held back since"),
        ("created_utc", _UTC_MICROSECONDS, "when the picture was made"),
        ("schema_version", pa.int32(), "of the program that made the row"),
        ("attempts", pa.int32(), "pictures made for the job"),
        ("verdict", pa.string(), "passed, failed (held back) or unscored"),
        ("mode", pa.string(), "learned, anchored or exact"),
        ("mode_reason", pa.string(), "why it is not made as asked; empty when it is"),
        ("photos", _TEXT_MAP, "sku -> SHA-256 of the photo that stands in the picture"),
        (
            "boxes",
            pa.map_(pa.string(), _BOX),
            "sku -> the pixels that it fills; right and bottom exclusive",
        ),
        ("strength", pa.float64(), "share of the denoising that redrew placed photos; 1 = all"),
        ("real_pixels", pa.float64(), "share of the products' visible pixels that are the photos'"),
        ("plan_hash", pa.string(), "of the plan that it was made for"),
        ("policy", pa.string(), "what asked for it: singles, pairs, coverage, ..."),
        ("negative_prompt", pa.string(), "what guidance steered away from"),
        ("attention", pa.string(), "JSON of the attention control of the job"),
        ("render_seconds", pa.float64(), "its share of the time of its batches, all attempts"),
        ("reason", pa.string(), "why it is superseded or held back; empty when it is current"),
        ("concepts", _TEXT_MAP, "sku -> SHA-256 of the concept; concept_sha256 of learning"),
        (
            "sources",
            pa.map_(pa.string(), _SOURCE),
            "sku -> collection and version that drew it; empty when those are the row's own",
        ),
        (
            "pixels_sha256",
            pa.string(),
            "SHA-256 over RGB <width> <height>, a line feed and the pixels, 3 bytes each; "
            "empty in rows of schema 5 and earlier",
        ),
    ],
)
"""``manifest/dt=.../part-0.parquet``.

The column ``schema_version`` is that of the program that made the row; the file's own
is in its metadata. ``quarantine/dt=.../part-0.parquet`` has the same schema.

``dt`` of the path is a partition column; the file's own date is ``day``, so that
no reader meets one column twice. There is no partition on SKU: hive readers would
turn ``00123`` into 123.
"""

_PHOTO = pa.struct(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

LEARNING_SCHEMA = table_schema(
    "learning_log",
    LEARNING_SCHEMA_VERSION,
    "one row per attempt at learning a SKU that learned it or failed, sorted by attempt_id",
    [
        ("attempt_id", pa.string(), "sku@version, or of a failed one sku@time"),
        ("sku", pa.string(), "the product"),
        ("collection", pa.string(), "in which it was to be learned"),
        ("status", pa.string(), "learned or failed"),
        ("reason", pa.string(), "why it failed and what to do; how it was learned otherwise"),
        ("version", pa.string(), "adapter version that serves it from then on; empty when failed"),
        ("concept_sha256", pa.string(), "of the concept; what column concepts of images names"),
        ("ended_utc", _UTC_MICROSECONDS, "when it was learned or had failed"),
        ("seconds", pa.float64(), "that the attempt took; 0 where a crash lost them"),
        ("name", pa.string(), "of the product, then"),
        ("class_noun", pa.string(), "of the product, then"),
        ("content_hash", pa.string(), "of its photos and card, as in the index"),
        ("photos_hash", pa.string(), "over the photos used and the class noun"),
        ("config_hash", pa.string(), "over the settings that training depends on, base included"),
        ("base_model_hash", pa.string(), "of the frozen base"),
        ("code_version", pa.string(), "of the program"),
        ("settings", pa.string(), "JSON of learning.yaml as it was"),
        (
            "photos",
            pa.list_(pa.field("element", _PHOTO, nullable=False)),
            "its photos: key, SHA-256, and why it was left out (empty: it was used)",
        ),
        ("metrics", _FIGURES, "likeness, loss and what the gates measured"),
        ("imported_from", pa.string(), "SHA-256 of an imported LoRA file; empty otherwise"),
    ],
)
"""``learning/dt=.../part-0.parquet``; ``dt`` is the day of ``ended_utc``."""

ADDED: Mapping[str, Mapping[str, tuple[int, Any]]] = {
    "catalog_index": {
        "learned_version": (2, ""),
        "learned_utc": (2, None),
        "photos_used": (2, 0),
        "left_out": (2, ()),
    },
    "image_manifest": {
        "attempts": (2, 1),
        "verdict": (2, "unscored"),
        "mode": (3, "learned"),
        "mode_reason": (3, ""),
        "photos": (3, ()),
        "boxes": (3, ()),
        "strength": (3, 1.0),
        "real_pixels": (3, 0.0),
        "plan_hash": (4, ""),
        "policy": (4, ""),
        "negative_prompt": (4, ""),
        "attention": (4, "{}"),
        "render_seconds": (4, 0.0),
        "reason": (4, ""),
        "concepts": (4, ()),
        "sources": (5, ()),
        "pixels_sha256": (6, ""),
    },
}
"""Schema -> column -> the version that brought it, and its value in older files."""
