"""``rollback``: serve an earlier version again, and let everything that shows it tell the truth."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.labels import job_labels
from catalog_pipeline.defs.learning.concept_events import CONCEPT_KEY
from catalog_pipeline.defs.learning.current_state import record_current_state
from catalog_pipeline.defs.learning.memory_report import memory_metadata
from catalog_pipeline.defs.learning.served import MEMORY_KEY
from catalog_pipeline.defs.metadata import table
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.defs.sku_shards import shard_holding

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home
    from catalog_pipeline.workflows.upkeep.versions import MoveEffect


class RollbackConfig(dg.Config):
    """Which version to serve."""

    version: str = Field(
        description="The version to serve, or a beginning of its name that no other has; the "
        "table `versions` of learning/memory lists them."
    )
    collection: str = Field(
        "",
        description="The collection whose head moves; needed only where the version's name is "
        "not enough to tell.",
    )
    dry_run: bool = Field(
        False,
        description="Only say what would fall out, come back and change; nothing is moved.",
    )


@dg.op
@fails_in_one_line
def serve_version(
    context: dg.OpExecutionContext, config: RollbackConfig, pipeline: PipelineResource
) -> None:
    """Move a collection's head to an earlier (or later) version, and say what that changed.

    The index is brought in line in the same step: products that the version does not know,
    or knows by older photos, become `failed` with the reason, and are not learned again
    behind the operator's back. Their partitions of `learning/concept` get an observation.
    """
    from catalog_pipeline.workflows.upkeep.versions import rollback, rollback_effect

    home, collection = pipeline.opened, config.collection.strip() or None
    effect = rollback_effect(home, config.version, collection)
    for line in effect.lines:
        context.log.info(f"dry run: {line}" if config.dry_run else line)
    if not config.dry_run:
        rollback(home, effect.after, effect.collection)
        _record(context, home, effect)
    context.add_output_metadata(
        {
            "collection": effect.collection,
            "before": effect.before,
            "after": effect.after,
            "dry_run": config.dry_run,
            "changes": table(_changes(effect), {"sku": "string", "change": "string"}),
        }
    )


def _changes(effect: "MoveEffect") -> list[dict[str, str | int | float | bool | None]]:
    rows = [(sku, "falls out") for sku in effect.lost]
    rows += [(sku, "comes back") for sku in effect.regained]
    rows += list(effect.changed.items())
    return [{"sku": sku, "change": change} for sku, change in rows]


def _record(context: dg.OpExecutionContext, home: "Home", effect: "MoveEffect") -> None:
    """The memory, the index and the products as they are after the move."""
    current = [home.adapters(name).current() for name in home.collections()]
    heads = [head for head in current if head is not None]
    context.log_event(
        dg.AssetMaterialization(
            asset_key=MEMORY_KEY,
            description="; ".join(effect.lines),
            metadata=memory_metadata(home, heads, context),
        )
    )
    for sku in effect.regained:
        context.log_event(
            dg.AssetObservation(
                asset_key=shard_holding(context.instance, sku).key(CONCEPT_KEY),
                partition=sku,
                description=f"Served again, by version {effect.after}.",
                metadata={"status": "served again", "reason": "", "version": effect.after},
            )
        )
    record_current_state(context, home)


@dg.job(
    name="rollback",
    description="Serves an earlier version of a collection again, and says what falls out, comes "
    "back and changes; `dry_run` says it beforehand. The next night is made of it.",
    executor_def=dg.in_process_executor,
    **job_labels("learning"),
)
def rollback_job() -> None:
    """One step; see docs/operations.md."""
    serve_version()
