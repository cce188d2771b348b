"""Products that were learned and are not served: a rollback took them out, or showed older photos.

Dagster keeps a partition green for ever once it was made, and cannot take that back. So the
memory has a check that names these products, and each gets an event that says so.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg

from catalog_pipeline.defs.learning.concept_events import CONCEPT_KEY
from catalog_pipeline.defs.metadata import table
from catalog_pipeline.defs.sku_shards import shard_holding

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

MEMORY_KEY = dg.AssetKey(["learning", "memory"])
SERVED = "learned_skus_are_served"
NOT_SERVED = "learned, not served"
STATUS = "status"


def not_served(home: "Home") -> dict[str, str]:
    """SKU -> why it is not served although these photos of it were learned, sorted."""
    from catalog_pipeline.workflows.upkeep.next_steps import is_rolled_back

    rows = sorted(home.index.read(), key=lambda row: row.sku)
    return {row.sku: row.reason for row in rows if is_rolled_back(row)}


def served_check(home: "Home") -> dg.AssetCheckResult:
    """``learned_skus_are_served``, from the index, which a rollback brings in line."""
    missing = not_served(home)
    return dg.AssetCheckResult(
        asset_key=MEMORY_KEY,
        check_name=SERVED,
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(missing)} products were learned and are not served"
        if missing
        else "every product that was learned is served",
        metadata={
            "not served": table(
                [{"sku": sku, "reason": reason} for sku, reason in missing.items()],
                {"sku": "string", "reason": "string"},
            )
        },
    )


def not_served_events(
    instance: dg.DagsterInstance, missing: Mapping[str, str]
) -> list[dg.AssetObservation]:
    """An observation for each whose newest one does not say the same already."""
    events = []
    for sku, reason in missing.items():
        key = shard_holding(instance, sku).key(CONCEPT_KEY)
        newest = instance.fetch_observations(
            dg.AssetRecordsFilter(key, asset_partitions=[sku]), limit=1
        ).records
        observation = newest[0].event_log_entry.asset_observation if newest else None
        said = observation.metadata.get("reason") if observation else None
        if said is None or said.value != reason:
            events.append(
                dg.AssetObservation(
                    asset_key=key,
                    partition=sku,
                    description=f"Not served any more: {reason}",
                    metadata={STATUS: NOT_SERVED, "reason": reason},
                )
            )
    return events
