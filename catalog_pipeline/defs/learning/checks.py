"""What must hold of the memory and of the products that it serves."""

import dagster as dg

from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.labels import check_labels
from catalog_pipeline.defs.learning.concept_events import CONCEPT_KEY
from catalog_pipeline.defs.learning.retention import NO_FORGETTING, PRIOR_INTACT, evaluate_claim
from catalog_pipeline.defs.learning.served import MEMORY_KEY, SERVED, served_check
from catalog_pipeline.defs.metadata import bullets
from catalog_pipeline.defs.resources import PipelineResource


@dg.asset_check(
    asset=CONCEPT_KEY, name=NO_FORGETTING, **check_labels("learning", kinds={"pytorch"})
)
@fails_in_one_line
def no_forgetting_regression(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """No earlier product fell past the tolerance when a served concept was learned.

    Reads the figure `forgetting` that the gate stored with each concept's newest
    materialization, against `gate_max_forgetting` as it is set now. It fails when the
    tolerance was tightened after the fact, or a version that an older gate let pass is
    served again.

    **Grain:** one result over the concepts of all heads. **Partition:** none. **Read by:**
    operators who decide on a rollback.
    """
    return evaluate_claim(pipeline.opened, NO_FORGETTING)


@dg.asset_check(asset=CONCEPT_KEY, name=PRIOR_INTACT, **check_labels("learning", kinds={"pytorch"}))
@fails_in_one_line
def prior_intact(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Prompts that name no learned product still give the base's pictures in every served version.

    Reads the figure `prior_drift` that the gate stored with each concept's newest
    materialization, against `gate_max_prior_drift` as it is set now.

    **Grain:** one result over the concepts of all heads. **Partition:** none. **Read by:**
    operators who decide on a rollback.
    """
    return evaluate_claim(pipeline.opened, PRIOR_INTACT)


@dg.asset_check(asset=MEMORY_KEY, blocking=True, **check_labels("learning", kinds={"safetensors"}))
@fails_in_one_line
def memory_head_is_consistent(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Every collection's head can be served: its record, its parts and its concepts agree.

    Every part must be stored; those that the newest task wrote are read and hashed
    (older ones were, when they were the newest). An error stops the night before
    anything is rendered from a broken memory.

    **Grain:** one result over the heads of all collections. **Partition:** none. **Read by:**
    `generation/plan`, which it stops, and operators.
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
            "problems": dg.MetadataValue.md(bullets(found)),
        },
    )


@dg.asset_check(asset=MEMORY_KEY, name=SERVED, **check_labels("learning", kinds={"safetensors"}))
@fails_in_one_line
def learned_skus_are_served(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Every product that was learned from the photos it has is known to the version served.

    A rollback takes products out, or shows them as of older photos; their partitions of
    `learning/concept` stay green, because Dagster cannot unmake one. A warning names each,
    and what brings it back.

    **Grain:** one result over the products of all collections. **Partition:** none.
    **Read by:** operators.
    """
    return served_check(pipeline.opened)
