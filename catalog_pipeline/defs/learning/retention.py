"""What the forgetting gate measured of the served concepts, as check results.

The checks evaluate the claims by hand and at the start of a report; a learning run records
them at its end, also when it fails. Dagster itself would skip checks behind such a step.
"""

from typing import TYPE_CHECKING

import dagster as dg

from catalog_pipeline.defs.catalog.index_report import check_event
from catalog_pipeline.defs.metadata import table

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

NO_FORGETTING = "no_forgetting_regression"
PRIOR_INTACT = "prior_intact"


def evaluate_claim(home: "Home", name: str) -> dg.AssetCheckResult:
    """Whether the figure of every served concept that has it is within the tolerance.

    Raises:
        StoreError: a collection's head cannot be read.
    """
    from catalog_pipeline.workflows.upkeep.claims import retention_claim

    claim = retention_claim(home, name)
    return dg.AssetCheckResult(
        check_name=name,
        passed=not claim.past_tolerance,
        severity=dg.AssetCheckSeverity.ERROR,
        description=str(claim),
        metadata={
            "largest": claim.largest,
            "tolerance": claim.tolerance,
            "measured": len(claim.measured),
            "not_measured": claim.not_measured,
            "past_the_tolerance": table(
                [{"learned": sku, claim.figure: v} for sku, v in claim.past_tolerance.items()],
                {"learned": "string", claim.figure: "float"},
            ),
        },
    )


def claim_events(home: "Home", asset_key: dg.AssetKey) -> list[dg.AssetCheckEvaluation]:
    """Both claims as events for the log of a step that is not a check.

    Raises:
        StoreError: a collection's head cannot be read.
    """
    return [
        check_event(evaluate_claim(home, name), asset_key) for name in (NO_FORGETTING, PRIOR_INTACT)
    ]
