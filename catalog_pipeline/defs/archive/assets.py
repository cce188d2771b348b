"""``archive/image_manifest`` and ``archive/summary``."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg

from catalog_pipeline.defs.archive.pages import night_pages
from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.freshness import every_night
from catalog_pipeline.defs.generation.images import IMAGES_KEY
from catalog_pipeline.defs.labels import asset_labels, check_labels, column_schema
from catalog_pipeline.defs.metadata import bullets, location, table
from catalog_pipeline.defs.partitions import day_partitions
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.records import ArchiveRow

MANIFEST_KEY = dg.AssetKey(["archive", "image_manifest"])
SUMMARY_KEY = dg.AssetKey(["archive", "summary"])


@dg.asset(
    key=MANIFEST_KEY,
    deps=[IMAGES_KEY],
    **asset_labels("archive", kinds={"parquet"}, cost="seconds"),
    metadata=column_schema("image_manifest"),
    freshness_policy=every_night(from_hour=2, until_hour=9),
    partitions_def=day_partitions,
    check_specs=[
        dg.AssetCheckSpec(
            "manifest_rows_match_files",
            asset=MANIFEST_KEY,
            blocking=True,
            description="Every row of the day's manifest points at a stored picture that hashes "
            "to the row's SHA-256. **Grain:** one result a night. **Partition:** the day is in "
            "the result. **Read by:** `archive/summary`, which it stops, and operators.",
            **check_labels("archive", kinds={"parquet"}),
        )
    ],
)
@fails_in_one_line
def image_manifest(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The published night, in `manifest/dt=<day>/part-0.parquet`.

    Replaced as a whole, in one step; a rerun that changes nothing writes nothing, and
    rows the plan no longer asks for are marked `superseded`. Its pages for people are
    written anew beside it, and linked.

    **Grain:** one row per picture. **Partition:** `day`. **Read by:** anyone with pandas or
    DuckDB, and `archive/summary`.
    """
    from catalog_pipeline.workflows.night.publish_manifest import publish_manifest

    home = pipeline.opened
    day = date.fromisoformat(context.partition_key)
    report = publish_manifest(home, day)
    archive = home.archive
    problems = archive.verify_day(day)
    yield dg.MaterializeResult(
        metadata={
            **night_pages(context, home, day),  # first: what a person looks for in the morning
            "dagster/row_count": report.rows,
            "added": report.added,
            "superseded": report.superseded,
            "quarantined": report.quarantined,
            "changed": report.changed,
            "versions": len(archive.versions(day)),
            "manifest": location(report.path),
            **night_numbers(archive.read_day(day)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="manifest_rows_match_files",
                passed=not problems,
                severity=dg.AssetCheckSeverity.ERROR,
                description=f"{day}: {len(problems)} problems in {report.rows} rows",
                metadata={
                    "day": day.isoformat(),
                    "rows": report.rows,
                    "problems": dg.MetadataValue.md(bullets(problems)),
                },
            )
        ],
    )


def night_numbers(rows: Sequence[ArchiveRow]) -> dict[str, Any]:
    """What the current pictures of a night cost and are, in numbers that plot over nights."""
    current = [row for row in rows if not row.superseded]
    if not current:
        return {"current": 0}
    seconds = sum(row.render_seconds for row in current)
    modes = sorted({row.mode for row in current})
    return {
        "current": len(current),
        "skus": len({sku for row in current for sku in row.skus}),
        "render_seconds": round(seconds, 1),
        "render_seconds_per_image": round(seconds / len(current), 3),
        "attempts_per_image": round(sum(row.attempts for row in current) / len(current), 3),
        "passed_share": round(sum(row.verdict == "passed" for row in current) / len(current), 4),
        **{f"mode/{mode}": sum(row.mode == mode for row in current) for mode in modes},
    }


@dg.asset(
    key=SUMMARY_KEY,
    deps=[MANIFEST_KEY],
    **asset_labels("archive", kinds={"duckdb"}, cost="seconds"),
)
@fails_in_one_line
def summary(pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    """The whole archive in numbers: pictures per night, per SKU and per mode, one query each.

    Counts current rows; superseded ones are counted apart.

    **Grain:** one summary over all nights. **Partition:** none. **Read by:** operators who wonder
    whether the archive grows as it should.
    """
    from catalog_pipeline.workflows.upkeep.archive_summary import query_archive

    found = query_archive(pipeline.opened)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(int(row["rows"]) for row in found.per_day),
            "nights": len(found.per_day),
            "skus": len(found.per_sku),
            "superseded": sum(int(row["superseded"]) for row in found.per_day),
            "manifest_glob": location(found.source),
            "per_day": table(
                found.per_day,
                {"day": "string", "rows": "int", "superseded": "int", "skus": "int"},
            ),
            "per_sku": table(found.per_sku, {"sku": "string", "rows": "int", "nights": "int"}),
            "per_mode": table(found.per_mode, {"mode": "string", "rows": "int"}),
        }
    )
