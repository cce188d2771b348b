"""``memory_head_is_consistent``, ``no_forgetting_regression`` and ``prior_intact``."""

import dagster as dg

from catalog_pipeline.defs.learning.assets import CONCEPT_KEY, MEMORY_KEY
from catalog_pipeline.defs.learning.retention import NO_FORGETTING, PRIOR_INTACT, evaluate_claim
from catalog_pipeline.defs.resources import PipelineResource


@dg.asset_check(asset=CONCEPT_KEY, name=NO_FORGETTING)
def no_forgetting_regression(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """No earlier product fell past the tolerance when a served concept was learned.

    Reads the figure `forgetting` that the gate stored with each concept's newest
    materialization, against `gate_max_forgetting` as it is set now. It fails when the
    tolerance was tightened after the fact, or a version that an older gate let pass is
    served again. Read by whoever decides on a rollback.
    """
    return evaluate_claim(pipeline.opened, NO_FORGETTING)


@dg.asset_check(asset=CONCEPT_KEY, name=PRIOR_INTACT)
def prior_intact(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Prompts that name no learned product still give the base's pictures in every served version.

    Reads the figure `prior_drift` that the gate stored with each concept's newest
    materialization, against `gate_max_prior_drift` as it is set now. Read by whoever
    decides on a rollback.
    """
    return evaluate_claim(pipeline.opened, PRIOR_INTACT)


@dg.asset_check(asset=MEMORY_KEY, blocking=True)
def memory_head_is_consistent(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Every collection's head can be served: its record, its parts and its concepts agree.

    Every part must be stored; those that the newest task wrote are read and hashed
    (older ones were, when they were the newest). An error stops the night before
    anything is rendered from a broken memory.
    """
    from catalog_pipeline.workflows.upkeep.claims import head_problems

    home = pipeline.opened
    names = home.collections()
    problems = {name: head_problems(home.adapters(name)) for name in names}
    found = [f"{name}: {problem}" for name, listed in problems.items() for problem in listed]
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(found[:5]) or f"{len(names)} collections are whole",
        metadata={
            "collections": len(names),
            "problems": dg.MetadataValue.md("\n".join(f"- {problem}" for problem in found)),
        },
    )
