"""``generation/plan`` and ``generation/images``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import dagster as dg

from catalog_pipeline.defs.learning.assets import MEMORY_KEY
from catalog_pipeline.defs.metadata import location, picture, table
from catalog_pipeline.defs.partitions import day_partitions
from catalog_pipeline.defs.progress import LogProgress
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.records import NightPlan, RenderReport

PLAN_KEY = dg.AssetKey(["generation", "plan"])
IMAGES_KEY = dg.AssetKey(["generation", "images"])
GENERATION_POOL = "generation"


@dg.asset(
    key=PLAN_KEY,
    deps=[MEMORY_KEY],
    group_name="generation",
    kinds={"json"},
    partitions_def=day_partitions,
)
def plan(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult[None]:
    """The night's render jobs: one job per picture in `plans/dt=<day>/plan.json`.

    The same day, concepts and settings give the same jobs. Read by `generation/images`
    and by publishing, which marks pictures that the plan no longer asks for.
    """
    from catalog_pipeline.workflows.night.plan_night import plan_key, plan_night

    night = plan_night(pipeline.opened, date.fromisoformat(context.partition_key))
    where = pipeline.opened.objects.uri(plan_key(night.day))
    return dg.MaterializeResult(metadata={**_plan_metadata(night), "plan": location(where)})


def _plan_metadata(night: NightPlan) -> dict[str, Any]:
    layouts = Counter(job.layout for job in night.jobs)
    products = Counter(sku for job in night.jobs for sku in job.skus)
    return {
        "dagster/row_count": len(night.jobs),
        "plan_hash": night.plan_hash,
        "skus": len(products),
        "adapter_versions": ", ".join(sorted({job.adapter_version for job in night.jobs})),
        **{f"layout/{layout}": count for layout, count in sorted(layouts.items())},
        "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in night.notes) or "none"),
        "first_jobs": table(
            [
                {"prompt": job.prompt, "skus": ", ".join(job.skus), "layout": job.layout}
                for job in night.jobs[:20]
            ],
            {"prompt": "string", "skus": "string", "layout": "string"},
        ),
    }


@dg.asset(
    key=IMAGES_KEY,
    deps=[PLAN_KEY],
    group_name="generation",
    kinds={"pytorch"},
    partitions_def=day_partitions,
    pool=GENERATION_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            "night_is_complete",
            asset=IMAGES_KEY,
            description="Every job of the plan has its picture; a warning names those that have "
            "none, and the night is published without them.",
        ),
        dg.AssetCheckSpec(
            "named_products_are_found",
            asset=IMAGES_KEY,
            description="Every product is found in enough of the night's pictures that name it; "
            "a warning names the products to take other photos of.",
        ),
    ],
)
def images(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The night's pictures: content-addressed PNGs, and their rows staged beside the archive.

    A rerun renders only what is neither staged, published nor held back. A picture that
    does not show every product that it names is tried again; what still fails is held back
    in quarantine. A night of which nothing could be rendered fails; one of which some
    pictures failed goes on without them.
    """
    from catalog_pipeline.workflows.night.render_night import render_night

    day = date.fromisoformat(context.partition_key)
    report = render_night(pipeline.opened, day, progress=LogProgress(context.log))
    failed = list(report.failed)
    metadata: dict[str, Any] = {
        "dagster/row_count": report.rendered + report.reused,
        "rendered": report.rendered,
        "reused": report.reused,
        "failed": len(failed),
        "quarantined": len(report.quarantined),
        "attempts": report.attempts,
        "seconds": round(report.seconds, 1),
    }
    if report.rendered:
        metadata["seconds_per_image"] = round(report.seconds / report.rendered, 2)
    if report.contact_sheet_png:
        metadata["contact_sheet"] = picture(report.contact_sheet_png, alt=f"night of {day}")
    if failed and not report.rendered + report.reused:
        raise dg.Failure(
            f"none of the {len(failed)} pictures of {day} could be rendered: "
            + "; ".join(failed[:5]),
            metadata=metadata,
            allow_retries=False,
        )
    yield dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name="night_is_complete",
                passed=not failed,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{day}: {len(failed)} pictures failed",
                metadata={
                    "day": day.isoformat(),
                    "failed": dg.MetadataValue.md("\n".join(f"- {job}" for job in failed)),
                },
            ),
            found_check(report),
        ],
    )


def found_check(report: RenderReport) -> dg.AssetCheckResult:
    """``named_products_are_found``, over the whole night's judged pictures."""
    held, retake = len(report.quarantined), ", ".join(report.retake)
    judged = f"{report.day}: {len(report.pass_rates)} products judged, {held} pictures held back"
    rows: list[Mapping[str, str | int | float | bool | None]] = [
        {
            "sku": rate.sku,
            "pictures": rate.pictures,
            "found": round(rate.rate, 3),
            "found_at_once": round(rate.first_rate, 3),
            "retake": rate.sku in report.retake,
        }
        for rate in report.pass_rates
    ]
    return dg.AssetCheckResult(
        check_name="named_products_are_found",
        passed=not report.retake,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{judged}; take other photos of {retake}" if retake else judged,
        metadata={
            "day": report.day.isoformat(),
            "quarantined": held,
            "retake": retake or "none",
            "pass_rates": table(
                rows,
                {
                    "sku": "string",
                    "pictures": "int",
                    "found": "float",
                    "found_at_once": "float",
                    "retake": "bool",
                },
            ),
        },
    )
