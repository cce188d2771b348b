"""Every product with where it stands: what the index says, and whether a head serves it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from catalog_pipeline.errors import CatalogError
from catalog_pipeline.records import IndexRow, SkuStatus
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.serving import read_heads, serving_collections
from catalog_pipeline.workflows.upkeep.next_steps import next_step


def list_products(
    home: Home, skus: Collection[str] = (), statuses: Collection[SkuStatus] = ()
) -> list[dict[str, Any]]:
    """One mapping of plain JSON types a product, sorted by SKU; ``skus`` and ``statuses`` choose.

    Keys: ``sku, name, class_noun, category, collection, status, reason, to_do, served_by`` (the
    collection whose version of now knows it, else empty), ``learned_version, learned_utc,
    photos, photos_used, left_out`` (photo -> reason).

    Raises:
        CatalogError: the index does not know one of ``skus``.
        StoreError: the index or a head cannot be read.
    """
    rows = home.index.read()
    unknown = sorted(set(skus) - {row.sku for row in rows})
    if unknown:
        raise CatalogError(
            f"the index does not know {', '.join(unknown)}; expected SKUs that "
            "`catalog-pipeline products` lists; run `catalog-pipeline index` after adding photos"
        )
    serving = serving_collections(rows, read_heads(home))
    return [
        _product(home, row, serving.get(row.sku, ""))
        for row in rows
        if (not skus or row.sku in skus) and (not statuses or row.status in statuses)
    ]


def _product(home: Home, row: IndexRow, served_by: str) -> dict[str, Any]:
    return {
        "sku": row.sku,
        "name": row.name,
        "class_noun": row.class_noun,
        "category": row.category,
        "collection": row.collection,
        "status": row.status.value,
        "reason": row.reason,
        "to_do": next_step(home, row),
        "served_by": served_by,
        "learned_version": row.learned_version,
        "learned_utc": row.learned_utc.isoformat() if row.learned_utc else None,
        "photos": row.photo_count,
        "photos_used": row.photos_used,
        "left_out": dict(row.left_out),
    }
