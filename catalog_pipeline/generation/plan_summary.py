"""A plan in numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from catalog_pipeline.generation.draws import KINDS
from catalog_pipeline.records import NightPlan, collections_of


def describe_plan(plan: NightPlan) -> dict[str, Any]:
    """Counts for people, JSON-ready: jobs by template, layout, policy, collection and SKU.

    ``per_sku`` counts, for each SKU, the pictures of each layout that show it.
    """
    per_sku: dict[str, Counter[str]] = {}
    for job in plan.jobs:
        for sku in job.skus:
            per_sku.setdefault(sku, Counter())[job.layout] += 1
    return {
        "day": plan.day.isoformat(),
        "plan_hash": plan.plan_hash,
        "jobs": len(plan.jobs),
        "per_kind": _counts(KINDS[len(job.skus)] for job in plan.jobs),
        "per_template": _counts(job.template for job in plan.jobs),
        "per_layout": _counts(job.layout for job in plan.jobs),
        "per_policy": _counts(job.policy for job in plan.jobs),
        "per_collection": _counts(" + ".join(collections_of(job)) for job in plan.jobs),
        "per_sku": {sku: dict(sorted(counts.items())) for sku, counts in sorted(per_sku.items())},
        "notes": list(plan.notes),
    }


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
