"""The Parquet tables that reports leave beside their pages: what things cost, what a study found.

Made anew each time and read by nothing of the program. The prices that costs were counted with
are in a file's metadata, ``prices``, as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from catalog_pipeline.records import NightCost, SkuCost, StudyRow
from catalog_pipeline.stores.columns import table_schema
from catalog_pipeline.stores.schemas import encode_table

COST_SCHEMA_VERSION = 1
"""Raised whenever a column of a cost table is added, removed or changes its meaning."""

STUDY_SCHEMA_VERSION = 1
"""Likewise of the study's table."""

_ATTEMPTS = [
    ("attempts", pa.int64(), "at learning, that learned it or failed"),
    ("learned", pa.int64(), "of them that learned"),
    ("refused", pa.int64(), "of them that failed"),
    ("untimed_attempts", pa.int64(), "of them without seconds in the log: their cost is missing"),
    ("learning_seconds", pa.float64(), "of all attempts, refused ones included"),
    ("refused_seconds", pa.float64(), "the part of them of attempts that failed"),
]
_MONEY = [
    ("energy_kwh", pa.float64(), "estimate: seconds x watts / 3.6e6"),
    (
        "machine_cost",
        pa.float64(),
        "(learning + rendering seconds) / 3600 x machine price + energy x price of electricity",
    ),
]

SKU_COST_SCHEMA = table_schema(
    "sku_costs",
    COST_SCHEMA_VERSION,
    "one row per SKU that was ever seen, learned or shown, sorted by sku",
    [
        ("sku", pa.string(), "the product"),
        ("name", pa.string(), "what people call it"),
        ("collection", pa.string(), "in which it is learned"),
        ("status", pa.string(), "as in the index; gone where the index does not know it"),
        ("place", pa.int64(), "the how-manieth product it was to be learned, from 1; null"),
        *_ATTEMPTS,
        ("pictures", pa.int64(), "published pictures that name it"),
        ("picture_share", pa.float64(), "the same, one that names k products counting 1/k"),
        ("held_back", pa.int64(), "pictures in quarantine that name it"),
        ("untimed_pictures", pa.int64(), "pictures without seconds: their cost is missing"),
        ("rendering_seconds", pa.float64(), "its share of all pictures made, published or not"),
        *_MONEY,
        ("concept_bytes", pa.float64(), "stored of it alone: parts served, refused candidates"),
        ("picture_bytes", pa.float64(), "its share of the pictures that name it"),
        ("shared_bytes", pa.float64(), "its share of versions, caches, manifests, pages"),
        ("storage_cost_month", pa.float64(), "of the three, each month"),
        ("currency", pa.string(), "of the costs"),
    ],
)
"""``skus.parquet`` of the cost report."""

NIGHT_COST_SCHEMA = table_schema(
    "night_costs",
    COST_SCHEMA_VERSION,
    "one row per day on which anything was learned or rendered, sorted by day",
    [
        ("day", pa.date32(), "of the night; of attempts the day (UTC) on which they ended"),
        *_ATTEMPTS,
        ("published", pa.int64(), "pictures that are published and asked for"),
        ("held_back", pa.int64(), "pictures in quarantine"),
        ("superseded", pa.int64(), "pictures that are no longer asked for"),
        ("picture_attempts", pa.int64(), "pictures made for all of them"),
        ("untimed_pictures", pa.int64(), "pictures without seconds: their cost is missing"),
        ("rendering_seconds", pa.float64(), "of all of them"),
        ("unused_seconds", pa.float64(), "the part of them of pictures that are not published"),
        ("failed", pa.int64(), "pictures that could not be made, by the night's report; null"),
        ("to_do", pa.int64(), "what the night's report asked people to do; null"),
        *_MONEY,
        (
            "cost_per_picture",
            pa.float64(),
            "machine cost of all rendering over published pictures; null",
        ),
        ("picture_bytes", pa.int64(), "of the night's pictures"),
        ("record_bytes", pa.int64(), "of its manifest, quarantine and their earlier states"),
        ("currency", pa.string(), "of the costs"),
    ],
)
"""``nights.parquet`` of the cost report."""

STUDY_SCHEMA = table_schema(
    "study",
    STUDY_SCHEMA_VERSION,
    "one row per cell and product",
    [
        ("row_id", pa.string(), "cell/sku"),
        ("study", pa.string(), "granularity or frequency"),
        ("choice", pa.string(), "what was chosen: sku, family, category; each, nightly, weekly"),
        ("slots", pa.string(), "per_concept or shared"),
        ("seed", pa.int64(), "of learning and of the deliveries"),
        ("sku", pa.string(), "the product"),
        ("name", pa.string(), "what people call it"),
        ("category", pa.string(), "of its card"),
        ("family", pa.string(), "its variant family in the study"),
        ("concept", pa.string(), "what drew it: the folder that was learned"),
        ("members", pa.int64(), "products that share the concept at the end"),
        ("likeness_learned", pa.float64(), "crops / ceiling, once it was learned last; null"),
        ("likeness", pa.float64(), "the same at the end; null"),
        ("forgotten", pa.float64(), "the former less the latter; null"),
        ("color_shift", pa.float64(), "CIELAB units beyond its photos' spread, at the end; null"),
        ("waited_days", pa.float64(), "from a delivery to its learning, mean"),
        ("reason", pa.string(), "why it has no figure; empty otherwise"),
    ],
)
"""``study.parquet``."""


def encode_sku_costs(rows: Sequence[SkuCost], prices: str) -> bytes:
    """Parquet bytes of ``skus.parquet``; ``prices`` is JSON for its metadata.

    Raises:
        StoreError: a SKU twice, or a value that does not fit its column.
    """
    ordered = sorted(rows, key=lambda row: row.sku)
    return encode_table(ordered, "sku", SKU_COST_SCHEMA, {"prices": prices})


def encode_night_costs(rows: Sequence[NightCost], prices: str) -> bytes:
    """Parquet bytes of ``nights.parquet``; likewise."""
    ordered = sorted(rows, key=lambda row: row.day)
    return encode_table(ordered, "day", NIGHT_COST_SCHEMA, {"prices": prices})


def encode_study(rows: Sequence[StudyRow]) -> bytes:
    """Parquet bytes of ``study.parquet``; likewise."""
    ordered = sorted(rows, key=lambda row: row.row_id)
    return encode_table(ordered, "row_id", STUDY_SCHEMA, {})
