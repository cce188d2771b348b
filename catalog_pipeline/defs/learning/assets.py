"""``learning/concept`` and ``learning/memory``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from catalog_pipeline.defs.catalog.assets import (
    PHOTO_SET_KEY,
    photo_set_event,
    photo_set_metadata,
)
from catalog_pipeline.defs.catalog.requests import MAX_SKUS_PER_RUN
from catalog_pipeline.defs.learning.retention import claim_events
from catalog_pipeline.defs.metadata import loss_curve, numbers, picture, table
from catalog_pipeline.defs.partitions import sku_partitions
from catalog_pipeline.defs.progress import LogProgress
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.errors import StoreError
from catalog_pipeline.records import AdapterVersion, LearnOutcome, PhotoSet

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

CONCEPT_KEY = dg.AssetKey(["learning", "concept"])
MEMORY_KEY = dg.AssetKey(["learning", "memory"])
LEARNING_POOL = "learning"
PICTURES_IN_A_FAILURE = 4
"""Of refused candidates, in the one event that a failed run ends with; each has its own, too."""


@dg.asset(
    key=CONCEPT_KEY,
    deps=[PHOTO_SET_KEY],
    group_name="learning",
    kinds={"pytorch"},
    partitions_def=sku_partitions,
    backfill_policy=dg.BackfillPolicy.multi_run(MAX_SKUS_PER_RUN),
    pool=LEARNING_POOL,
    output_required=False,
)
def concept(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> Iterator[Any]:
    """A product the model can draw: one concept per `sku` in its collection's adapter.

    Learns the SKUs of a partition range one after the other. Each is recorded the
    moment its version is promoted, so a run that dies keeps what it had. Photo sets
    and quality gates are judged here, inside the step: a SKU that fails stays
    unmaterialized, the others go on, and the run fails at the end with every reason. A
    candidate that a gate refused is shown, before and after, as an observation.
    Unchanged photos and settings cost nothing. Read by `learning/memory` and the planner.
    """
    from catalog_pipeline.workflows.learn import learn_concepts

    home, skus = pipeline.opened, list(context.partition_keys)

    def record(photos: PhotoSet) -> None:
        context.log_event(photo_set_event(photos.sku.sku, photo_set_metadata(photos, home)))

    unknown = "the learning run ended without a verdict on it"
    failed = {sku: LearnOutcome(sku, "failed", reason=unknown) for sku in skus}
    progress = LogProgress(context.log)
    for outcome in learn_concepts.learn_concepts(
        home, skus, progress=progress, on_photo_set=record
    ):
        if outcome.status == "failed":
            failed[outcome.sku] = outcome
            context.log.error(f"{outcome.sku}: {outcome.reason}")
            if outcome.contact_sheet_png:
                context.log_event(_refusal(outcome))
            continue
        failed.pop(outcome.sku, None)
        context.log.info(f"{outcome.sku}: {outcome.status} in {outcome.seconds:.1f} s")
        context.log_event(
            dg.AssetMaterialization(
                asset_key=CONCEPT_KEY,
                partition=outcome.sku,
                metadata=_concept_metadata(outcome),
            )
        )
    _record_claims(context, home)
    if failed:
        raise _failure(list(failed.values()), len(skus))
    yield from ()


def _record_claims(context: dg.AssetExecutionContext, home: "Home") -> None:
    """Record what the gate measured of everything that is served now."""
    try:
        for event in claim_events(home, CONCEPT_KEY):
            context.log_event(event)
    except StoreError as error:  # said again, and loudly, by memory_head_is_consistent
        context.log.warning(f"what was forgotten is not known: {error}")


def _concept_metadata(outcome: LearnOutcome) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "status": outcome.status,
        "adapter_version": outcome.version,
        "seconds": round(outcome.seconds, 1),
        **numbers("metric", outcome.metrics),
    }
    if outcome.reason:
        metadata["reason"] = outcome.reason
    if outcome.contact_sheet_png:
        metadata["photos_above_samples_below"] = picture(outcome.contact_sheet_png, alt=outcome.sku)
    if outcome.loss_curve:
        metadata["loss_curve"] = loss_curve(outcome.loss_curve)
    return metadata


def _refusal(outcome: LearnOutcome) -> dg.AssetObservation:
    """What the gate saw of a candidate that was not promoted."""
    return dg.AssetObservation(
        asset_key=CONCEPT_KEY,
        partition=outcome.sku,
        description=outcome.reason,
        metadata={
            "status": "refused",
            "before_above_after_below": picture(outcome.contact_sheet_png, alt=outcome.sku),
            **numbers("metric", outcome.metrics),
        },
    )


def _failure(failed: list[LearnOutcome], asked: int) -> dg.Failure:
    reasons = "; ".join(f"{outcome.sku}: {outcome.reason}" for outcome in failed)
    shown = [outcome for outcome in failed if outcome.contact_sheet_png][:PICTURES_IN_A_FAILURE]
    return dg.Failure(
        description=f"{len(failed)} of {asked} SKUs were not learned: {reasons}",
        metadata={
            "failed": table(
                [{"sku": outcome.sku, "reason": outcome.reason} for outcome in failed],
                {"sku": "string", "reason": "string"},
            ),
            **{f"pictures/{o.sku}": picture(o.contact_sheet_png, alt=o.sku) for o in shown},
        },
        # The same photos would fail the same way; the pool is needed by the others.
        allow_retries=False,
    )


@dg.asset(key=MEMORY_KEY, deps=[CONCEPT_KEY], group_name="learning", kinds={"safetensors"})
def memory(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult[None]:
    """What the model knows now: one adapter head per collection, with every concept in it.

    Reads the head that learning promoted (or a person rolled back to); changes
    nothing. Unpartitioned, and run at the start of each night rather than after each
    SKU. Read by `generation/plan`.
    """
    home = pipeline.opened
    heads = [
        current
        for name in home.collections()
        if (current := home.adapters(name).current()) is not None
    ]
    if not heads:
        raise dg.Failure(
            "no collection has a promoted version; expected at least one learned SKU; "
            "materialize learning/concept first",
            allow_retries=False,
        )
    context.log.info(f"{len(heads)} collections: {', '.join(head.collection for head in heads)}")
    return dg.MaterializeResult(metadata=_memory_metadata(heads))


def _memory_metadata(heads: list[AdapterVersion]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(len(head.concepts) for head in heads),
        "collections": table(
            [
                {
                    "collection": head.collection,
                    "version": head.version,
                    "memory_version": head.memory_version,
                    "concepts": len(head.concepts),
                    "created_utc": head.created_utc.isoformat(timespec="seconds"),
                }
                for head in heads
            ],
            {
                "collection": "string",
                "version": "string",
                "memory_version": "string",
                "concepts": "int",
                "created_utc": "string",
            },
        ),
        "concepts": table(
            [
                {
                    "sku": concept.sku,
                    "name": concept.name,
                    "collection": head.collection,
                    "task": concept.task,
                    "metrics": ", ".join(f"{k} {v:.3f}" for k, v in concept.metrics.items()),
                }
                for head in heads
                for concept in head.concepts
            ],
            {
                "sku": "string",
                "name": "string",
                "collection": "string",
                "task": "int",
                "metrics": "string",
            },
        ),
    }
    for head in heads:
        metadata |= numbers(head.collection, head.metrics)
    return metadata
