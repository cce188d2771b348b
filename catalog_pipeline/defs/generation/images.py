"""``generation/images``."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.generation.assets import PLAN_KEY
from catalog_pipeline.defs.labels import asset_labels, check_labels
from catalog_pipeline.defs.metadata import bullets, table
from catalog_pipeline.defs.partitions import day_partitions
from catalog_pipeline.defs.pictures import picture
from catalog_pipeline.defs.progress import LogProgress
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.records import RenderReport

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

IMAGES_KEY = dg.AssetKey(["generation", "images"])
GENERATION_POOL = "generation"


class NightConfig(dg.Config):
    """How the pictures of a night are made; empty means as generation.yaml says."""

    attempts: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Pictures made for one job at most, in place of "
        "`generation.yaml: quality.attempts`, in this run alone. The plan stays the same.",
    )
    retry_quarantined: bool = Field(
        False,
        description="Make another round of attempts at the pictures of this night that are held "
        "back.",
    )


def home_of_run(home: "Home", config: NightConfig) -> "Home":
    """``home`` with the settings of this run."""
    from catalog_pipeline.workflows.home import Home

    if config.attempts is None:
        return home
    generation = home.settings.generation
    quality = generation.quality.model_copy(update={"attempts": config.attempts})
    generation = generation.model_copy(update={"quality": quality})
    return Home(home.settings.model_copy(update={"generation": generation}), run=home.run)


@dg.asset(
    key=IMAGES_KEY,
    deps=[PLAN_KEY],
    **asset_labels("generation", kinds={"pytorch"}, cost="minutes"),
    partitions_def=day_partitions,
    pool=GENERATION_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            "night_is_complete",
            asset=IMAGES_KEY,
            description="Every job of the plan has its picture; a warning names those that have "
            "none, and the night is published without them. **Grain:** one result a night. "
            "**Partition:** the day is in the result. **Read by:** operators.",
            **check_labels("generation", kinds={"pytorch"}),
        ),
        dg.AssetCheckSpec(
            "named_products_are_found",
            asset=IMAGES_KEY,
            description="Every product is found in enough of the night's pictures that name it; "
            "a warning names the products to take other photos of. **Grain:** one result a night, "
            "a row per product. **Partition:** the day is in the result. **Read by:** operators.",
            **check_labels("generation", kinds={"pytorch"}),
        ),
    ],
)
@fails_in_one_line
def images(
    context: dg.AssetExecutionContext, config: NightConfig, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The night's pictures: content-addressed PNGs, and their rows staged beside the archive.

    A rerun renders only what is neither staged, published nor held back. A picture that
    does not show every product that it names is tried again; what still fails is held back
    in quarantine. A night of which nothing could be rendered fails; one of which some
    pictures failed goes on without them.

    **Grain:** one picture per job of the plan. **Partition:** `day`. **Read by:**
    `archive/image_manifest`.
    """
    from catalog_pipeline.workflows.night.render_night import render_night

    day = date.fromisoformat(context.partition_key)
    report = render_night(
        home_of_run(pipeline.opened, config),
        day,
        retry_quarantined=config.retry_quarantined,
        progress=LogProgress(context.log),
    )
    failed = list(report.failed)
    metadata = render_numbers(report)
    if report.contact_sheet_png:
        sheet = picture(report.contact_sheet_png, alt=f"night of {day}", run=context)
        metadata = {"contact_sheet": sheet, **metadata}
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
                    "failed": dg.MetadataValue.md(bullets(failed)),
                },
            ),
            found_check(report),
        ],
    )


def render_numbers(report: RenderReport) -> dict[str, Any]:
    """What rendering cost and gave, in numbers that plot over nights."""
    judged = sum(rate.pictures for rate in report.pass_rates)
    found = sum(rate.found for rate in report.pass_rates)
    at_once = sum(rate.found_at_once for rate in report.pass_rates)
    numbers: dict[str, Any] = {
        "dagster/row_count": report.rendered + report.reused,
        "rendered": report.rendered,
        "reused": report.reused,
        "failed": len(report.failed),
        "quarantined": len(report.quarantined),
        "attempts": report.attempts,
        "seconds": round(report.seconds, 1),
    }
    if report.rendered:
        numbers["seconds_per_image"] = round(report.seconds / report.rendered, 2)
        numbers["attempts_per_image"] = round(report.attempts / report.rendered, 3)
    if report.rendered and report.seconds:
        numbers["images_per_second"] = round(report.rendered / report.seconds, 4)
    if judged:
        numbers["pass_rate"] = round(found / judged, 4)
        numbers["pass_rate_at_once"] = round(at_once / judged, 4)
    return numbers


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
