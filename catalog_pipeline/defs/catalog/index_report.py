"""What the UI says of the index: counts that plot, every product with its reason, what to do.

The same words in the asset's step, in a tick that saw a change, and after a learning run.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from catalog_pipeline.defs.metadata import location, table
from catalog_pipeline.records import IndexReport, IndexRow, SkuStatus

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

INDEX_KEY = dg.AssetKey(["catalog", "index"])
USABLE = "photo_set_is_usable"
PRODUCTS_SHOWN = 500
_NAMED_IN_A_TICK = 5
_REFUSED_ROWS_AT_MOST = 1000


def row_metadata(rows: Sequence[IndexRow], home: "Home") -> dict[str, Any]:
    """Of the rows alone: counts, and SKU | status | reason | what to do."""
    from catalog_pipeline.stores.index import INDEX_KEY as INDEX_OBJECT
    from catalog_pipeline.workflows.upkeep.next_steps import by_need, next_step

    return {
        "dagster/row_count": len(rows),
        "products": table(
            [
                {
                    "sku": row.sku,
                    "status": row.status.value,
                    "reason": row.reason,
                    "what to do": next_step(home, row, folder=f"the folder {row.sku}"),
                    "photos": row.photo_count,
                    "used": row.photos_used,
                    "left out": len(row.left_out),
                }
                for row in by_need(rows)[:PRODUCTS_SHOWN]
            ],
            {
                "sku": "string",
                "status": "string",
                "reason": "string",
                "what to do": "string",
                "photos": "int",
                "used": "int",
                "left out": "int",
            },
            at_most=PRODUCTS_SHOWN,
        ),
        **{
            f"status/{status.value}": sum(row.status is status for row in rows)
            for status in SkuStatus
        },
        "photos": sum(row.photo_count for row in rows if row.status is not SkuStatus.RETIRED),
        "index": location(home.objects.uri(INDEX_OBJECT)),
        "catalog_root": dg.MetadataValue.path(str(home.settings.catalog_root)),
    }


def index_metadata(report: IndexReport, home: "Home") -> dict[str, Any]:
    """Of a listing: the rows, what moved, and what was refused and why."""
    metadata = {
        **row_metadata(report.rows, home),
        "added": len(report.added),
        "changed": len(report.changed),
        "retired": len(report.retired),
        "still_moving": len(report.unsettled),
        "refused_files": len(report.refused),
    }
    moved = {
        "added": report.added,
        "changed": report.changed,
        "retired": report.retired,
        "still moving": report.unsettled,
    }
    changes = [{"sku": sku, "change": change} for change, skus in moved.items() for sku in skus]
    if changes:
        metadata["changes"] = table(changes, {"sku": "string", "change": "string"})
    if report.renamed:
        metadata["renamed"] = table(
            [{"sku": sku, "was": before} for sku, before in report.renamed.items()],
            {"sku": "string", "was": "string"},
        )
    if report.refused:
        metadata["refused"] = table(
            [{"file": item.key, "reason": item.reason} for item in report.refused],
            {"file": "string", "reason": "string"},
            at_most=_REFUSED_ROWS_AT_MOST,
        )
    if report.warnings:
        metadata["warnings"] = table(
            [{"warning": w} for w in report.warnings], {"warning": "string"}
        )
    return metadata


def usable_check(home: "Home") -> dg.AssetCheckResult:
    """``photo_set_is_usable``: the products that cannot be learned as they are, and why."""
    from catalog_pipeline.records import SkuStatus
    from catalog_pipeline.workflows.upkeep.claims import unusable_products
    from catalog_pipeline.workflows.upkeep.next_steps import next_step

    unusable, products = unusable_products(home)
    rows = {row.sku: row for row in home.index.read() if row.status is not SkuStatus.RETIRED}
    return dg.AssetCheckResult(
        asset_key=INDEX_KEY,
        check_name=USABLE,
        passed=not unusable,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(unusable)} of {products} products cannot be learned as they are",
        metadata={
            "unusable": table(
                [
                    {
                        "sku": sku,
                        "reason": reason,
                        "what to do": next_step(home, rows[sku], folder=f"the folder {sku}"),
                    }
                    for sku, reason in unusable.items()
                    if sku in rows
                ],
                {"sku": "string", "reason": "string", "what to do": "string"},
            )
        },
    )


def check_event(result: dg.AssetCheckResult, asset_key: dg.AssetKey) -> dg.AssetCheckEvaluation:
    """The result of a check as an event, for a tick or a step that is not the check's own."""
    return dg.AssetCheckEvaluation(
        asset_key=asset_key,
        check_name=str(result.check_name),
        passed=bool(result.passed),
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )


def index_events(
    home: "Home", metadata: dict[str, Any]
) -> list[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """The index as it is now, then who cannot be learned: a check older than it counts as stale."""
    return [
        dg.AssetMaterialization(asset_key=INDEX_KEY, metadata=metadata),
        check_event(usable_check(home), INDEX_KEY),
    ]


def waiting_for_a_person(home: "Home", rows: Sequence[IndexRow]) -> str:
    """The failed products in one line: each with the first line of its reason; empty for none."""
    failed = [row for row in rows if row.status is SkuStatus.FAILED]
    if not failed:
        return ""
    named = [f"{row.sku} ({_first_line(row)})" for row in failed[:_NAMED_IN_A_TICK]]
    if len(failed) > _NAMED_IN_A_TICK:
        named.append(f"and {len(failed) - _NAMED_IN_A_TICK} more")
    return f"{len(failed)} wait for a person: {'; '.join(named)}; catalog/index says what to do"


def _first_line(row: IndexRow) -> str:
    return (row.reason or "no reason is known").splitlines()[0].removeprefix(f"{row.sku}: ")
