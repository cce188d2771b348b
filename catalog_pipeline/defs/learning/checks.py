"""``memory_head_is_consistent``, ``no_forgetting_regression`` and ``prior_intact``."""

import dagster as dg

from catalog_pipeline.defs.learning.assets import CONCEPT_KEY, MEMORY_KEY
from catalog_pipeline.defs.learning.retention import NO_FORGETTING, PRIOR_INTACT, evaluate_claim
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.errors import StoreError
from catalog_pipeline.stores.adapters import AdapterStore


@dg.asset_check(asset=CONCEPT_KEY, name=NO_FORGETTING)
def no_forgetting_regression(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """No earlier product fell past the tolerance when a served concept was learned.

    Reads the figure `forgetting` that the gate stored with each concept's newest
    materialization, against `gate_max_forgetting` as it is set now. It fails when the
    tolerance was tightened after the fact, or a version that an older gate let pass is
    served again. Read by whoever decides on a rollback.
    """
    return evaluate_claim(pipeline.settings(), NO_FORGETTING)


@dg.asset_check(asset=CONCEPT_KEY, name=PRIOR_INTACT)
def prior_intact(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Prompts that name no learned product still give the base's pictures in every served version.

    Reads the figure `prior_drift` that the gate stored with each concept's newest
    materialization, against `gate_max_prior_drift` as it is set now. Read by whoever
    decides on a rollback.
    """
    return evaluate_claim(pipeline.settings(), PRIOR_INTACT)


@dg.asset_check(asset=MEMORY_KEY, blocking=True)
def memory_head_is_consistent(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Every collection's head can be served: its record, its parts and its concepts agree.

    Every part must be stored; those that the newest task wrote are read and hashed
    (older ones were, when they were the newest). An error stops the night before
    anything is rendered from a broken memory.
    """
    from catalog_pipeline.workflows.home import open_home

    home = open_home(pipeline.settings())
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


def head_problems(adapters: AdapterStore) -> list[str]:
    """What is wrong with a collection's head, in words; ``[]`` when it can be served."""
    try:
        current = adapters.current()
        if current is None:
            return []
        known = adapters.read(current.parent).parts if current.parent is not None else {}
    except StoreError as error:
        return [str(error)]
    problems = [
        f"{concept.sku} has no part concept/{concept.sku}"
        for concept in current.concepts
        if f"concept/{concept.sku}" not in current.parts
    ]
    tokens = [token for concept in current.concepts for token in concept.placeholder_tokens]
    if len(tokens) != len(set(tokens)):
        problems.append("two concepts share a placeholder token")
    stored = set(adapters.part_names())
    for name, digest in sorted(current.parts.items()):
        if digest not in stored:
            problems.append(f"part {name} ({digest[:12]}) is not stored")
        elif known.get(name) != digest:
            try:
                adapters.read_part(digest)
            except StoreError as error:
                problems.append(f"part {name}: {error}")
    return problems
