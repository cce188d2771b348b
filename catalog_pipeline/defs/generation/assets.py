"""``generation/plan``."""

from collections import Counter
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.labels import asset_labels
from catalog_pipeline.defs.learning.served import MEMORY_KEY
from catalog_pipeline.defs.metadata import bullets, location, table
from catalog_pipeline.defs.partitions import day_partitions, schedule_timezone
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.records import NightPlan, sources_of

PLAN_KEY = dg.AssetKey(["generation", "plan"])
JOBS_SHOWN = 200


@dg.asset(
    key=PLAN_KEY,
    deps=[MEMORY_KEY],
    **asset_labels("generation", kinds={"json"}, cost="seconds"),
    partitions_def=day_partitions,
)
@fails_in_one_line
def plan(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult[None]:
    """The night's render jobs, in `plans/dt=<day>/plan.json`.

    The same day, concepts and settings give the same jobs. A past day is planned with what is
    served now, and says so: what was served on that day is not asked.

    **Grain:** one job per picture. **Partition:** `day`. **Read by:** `generation/images`, and
    publishing, which marks pictures that the plan no longer asks for.
    """
    from catalog_pipeline.workflows.night.plan_night import find_plan, plan_key, plan_night

    home, day = pipeline.opened, date.fromisoformat(context.partition_key)
    before = find_plan(home, day)
    night = plan_night(home, day)
    planned = planned_when(night, today(), unchanged=before == night)
    (context.log.info if day == today() else context.log.warning)(planned)
    where = home.objects.uri(plan_key(night.day))
    return dg.MaterializeResult(
        metadata={**plan_metadata(night), "planned": planned, "plan": location(where)}
    )


def today() -> date:
    """The calendar day, in the time zone of the schedules."""
    return datetime.now(ZoneInfo(schedule_timezone())).date()


def planned_when(night: NightPlan, now: date, *, unchanged: bool) -> str:
    """With which versions a night is planned, and whether they are of its own day."""
    versions = ", ".join(_versions(night)) or "none"
    if unchanged:
        return f"the plan of {night.day} stays as it was made, with the versions {versions}"
    if night.day == now:
        return f"planned with the versions served now ({versions})"
    return (
        f"planned with the versions served now ({versions}), on {now}; the night's own day was "
        f"{night.day}"
    )


def _versions(night: NightPlan) -> list[str]:
    return sorted({s.adapter_version for job in night.jobs for s in sources_of(job).values()})


def plan_metadata(night: NightPlan) -> dict[str, Any]:
    """What a person wants to know of a plan, in numbers that plot and a table of its jobs."""
    layouts = Counter(job.layout for job in night.jobs)
    policies = Counter(job.policy or "unnamed" for job in night.jobs)
    products = Counter(sku for job in night.jobs for sku in job.skus)
    return {
        "dagster/row_count": len(night.jobs),
        "plan_hash": night.plan_hash,
        "skus": len(products),
        "adapter_versions": ", ".join(_versions(night)),
        **{f"layout/{layout}": count for layout, count in sorted(layouts.items())},
        **{f"policy/{policy}": count for policy, count in sorted(policies.items())},
        "notes": dg.MetadataValue.md(bullets(night.notes)),
        "jobs": table(
            [
                {
                    "prompt": job.prompt,
                    "skus": ", ".join(job.skus),
                    "policy": job.policy,
                    "layout": job.layout,
                    "mode": job.mode,
                    "why this mode": job.mode_reason,
                }
                for job in night.jobs[:JOBS_SHOWN]
            ],
            dict.fromkeys(
                ("prompt", "skus", "policy", "layout", "mode", "why this mode"), "string"
            ),
        ),
    }
