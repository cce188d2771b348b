"""What the forgetting gate measured of the served concepts, as claims.

The checks evaluate them by hand and at the start of a report; a learning run records them
at its end, also when it fails. Dagster itself would skip checks behind such a step.
"""

import dagster as dg

from catalog_pipeline.defs.metadata import table
from catalog_pipeline.settings import Settings

NO_FORGETTING = "no_forgetting_regression"
PRIOR_INTACT = "prior_intact"

_CLAIMS = {
    NO_FORGETTING: ("forgetting", "gate_max_forgetting"),
    PRIOR_INTACT: ("prior_drift", "gate_max_prior_drift"),
}
"""Claim -> the stored figure and the setting that bounds it."""


def evaluate_claim(settings: Settings, claim: str) -> dg.AssetCheckResult:
    """Whether the figure of every served concept that has it is within the tolerance.

    Raises:
        StoreError: a collection's head cannot be read.
    """
    from catalog_pipeline.workflows.home import open_home

    figure, setting = _CLAIMS[claim]
    tolerance = float(getattr(settings.learning, setting))
    home = open_home(settings)
    heads = [home.adapters(name).current() for name in home.collections()]
    concepts = [concept for head in heads if head is not None for concept in head.concepts]
    measured = {c.sku: c.metrics[figure] for c in concepts if figure in c.metrics}
    past = {sku: value for sku, value in sorted(measured.items()) if value > tolerance}
    largest = max(measured.values(), default=0.0)
    return dg.AssetCheckResult(
        passed=not past,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"largest {figure} of {len(measured)} concepts: {largest:.3f}, expected at "
        f"most {tolerance:g}",
        metadata={
            "largest": largest,
            "tolerance": tolerance,
            "measured": len(measured),
            "not_measured": len(concepts) - len(measured),
            "past_the_tolerance": table(
                [{"learned": sku, figure: value} for sku, value in past.items()],
                {"learned": "string", figure: "float"},
            ),
        },
    )


def claim_events(settings: Settings, asset_key: dg.AssetKey) -> list[dg.AssetCheckEvaluation]:
    """Both claims as events for the log of a step that is not a check.

    Raises:
        StoreError: a collection's head cannot be read.
    """
    events = []
    for claim in _CLAIMS:
        result = evaluate_claim(settings, claim)
        events.append(
            dg.AssetCheckEvaluation(
                asset_key=asset_key,
                check_name=claim,
                passed=bool(result.passed),
                severity=result.severity,
                description=result.description,
                metadata=result.metadata,
            )
        )
    return events
