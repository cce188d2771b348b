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
from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.freshness import every_night
from catalog_pipeline.defs.labels import asset_labels, column_schema
from catalog_pipeline.defs.learning.concept_events import (
    CONCEPT_KEY,
    Refused,
    concept_event,
    refusal_event,
    run_failure,
)
from catalog_pipeline.defs.learning.config import LearnConfig, home_of_run
from catalog_pipeline.defs.learning.current_state import record_current_state
from catalog_pipeline.defs.learning.memory_report import memory_metadata
from catalog_pipeline.defs.learning.served import (
    MEMORY_KEY,
    not_served,
    not_served_events,
)
from catalog_pipeline.defs.progress import LogProgress
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.defs.sku_shards import SKU_SHARDS, SkuShard
from catalog_pipeline.records import LearnOutcome, PhotoSet

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

LEARNING_POOL = "learning"


def concept_asset(shard: SkuShard) -> dg.AssetsDefinition:
    """``learning/concept`` of one shard."""

    @dg.asset(
        key=shard.key(CONCEPT_KEY),
        deps=[shard.key(PHOTO_SET_KEY)],
        **asset_labels("learning", kinds={"pytorch"}, cost="minutes"),
        metadata=column_schema("learning_log"),
        partitions_def=shard.partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(MAX_SKUS_PER_RUN),
        pool=LEARNING_POOL,
        output_required=False,
    )
    @fails_in_one_line
    def concept(
        context: dg.AssetExecutionContext, config: LearnConfig, pipeline: PipelineResource
    ) -> Iterator[Any]:
        """A product the model can draw, in its collection's adapter.

        Learns the SKUs of a partition range one after the other. Each is recorded the
        moment its version is promoted, so a run that dies keeps what it had. Photo sets
        and quality gates are judged here, inside the step: a SKU that fails stays
        unmaterialized, the others go on, and the run fails at the end with every reason. Its
        partition's events show the reason, its photos, what the gate saw, and the one thing to do.
        Unchanged photos and settings cost nothing. The columns are those of the learning log,
        which has a row for each attempt.

        **Grain:** one concept per SKU. **Partition:** `sku`. **Read by:** `learning/memory`, the
        planner and operators.
        """
        home, skus = home_of_run(pipeline.opened, config), list(context.partition_keys)
        refused = _learn(shard, context, home, skus, config)
        record_current_state(context, home)
        if refused:
            raise run_failure(refused, len(skus), home, context, shard.key(CONCEPT_KEY))
        yield from ()

    return concept


concepts = [concept_asset(shard) for shard in SKU_SHARDS]


def _learn(
    shard: SkuShard,
    context: dg.AssetExecutionContext,
    home: "Home",
    skus: list[str],
    config: LearnConfig,
) -> list[Refused]:
    """Learn ``skus``, each recorded as it is decided; returns those that were not learned."""
    from catalog_pipeline.workflows.learn import learn_concepts

    key = shard.key(CONCEPT_KEY)
    photo_sets: dict[str, PhotoSet] = {}

    def record(photos: PhotoSet) -> None:
        photo_sets.clear()  # one product's photos at a time are enough to hold
        photo_sets[photos.sku.sku] = photos
        metadata = photo_set_metadata(photos, home, context)
        context.log_event(photo_set_event(shard, photos.sku.sku, metadata))

    unknown = "the learning run ended without a verdict on it"
    refused = {sku: Refused(LearnOutcome(sku, "failed", reason=unknown)) for sku in skus}
    for outcome in learn_concepts.learn_concepts(
        home,
        skus,
        progress=LogProgress(context.log),
        on_photo_set=record,
        force=config.force,
    ):
        photos = photo_sets.get(outcome.sku)
        if outcome.status == "failed":
            row = next((row for row in home.index.read() if row.sku == outcome.sku), None)
            refused[outcome.sku] = Refused.of(outcome, row, photos)
            context.log.error(f"{outcome.sku}: {outcome.reason}")
            context.log_event(refusal_event(refused[outcome.sku], home, context, key))
            continue
        refused.pop(outcome.sku, None)
        context.log.info(f"{outcome.sku}: {outcome.status} in {outcome.seconds:.1f} s")
        context.log_event(concept_event(outcome, photos, context, config.steps, key))
    return list(refused.values())


@dg.asset(
    key=MEMORY_KEY,
    deps=[shard.key(CONCEPT_KEY) for shard in SKU_SHARDS],
    **asset_labels("learning", kinds={"safetensors"}, cost="seconds"),
    freshness_policy=every_night(from_hour=1, until_hour=4),
)
@fails_in_one_line
def memory(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult[None]:
    """What the model knows now, with every concept in it, and how it came about.

    Reads the head that learning promoted (or a person rolled back to); changes
    nothing. Run at the start of each night rather than after each SKU. Its figures plot over
    nights, `over versions` over versions: likeness, forgetting and drift.

    **Grain:** one adapter head per collection. **Partition:** none. **Read by:**
    `generation/plan` and operators.
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
    for event in not_served_events(context.instance, not_served(home)):
        context.log_event(event)
    return dg.MaterializeResult(metadata=memory_metadata(home, heads, context))
