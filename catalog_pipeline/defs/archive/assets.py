"""``archive/image_manifest`` and ``archive/summary``."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from catalog_pipeline.defs.generation.assets import IMAGES_KEY
from catalog_pipeline.defs.metadata import location, table
from catalog_pipeline.defs.partitions import day_partitions
from catalog_pipeline.defs.resources import PipelineResource

MANIFEST_KEY = dg.AssetKey(["archive", "image_manifest"])
SUMMARY_KEY = dg.AssetKey(["archive", "summary"])
PROBLEMS_SHOWN = 50


@dg.asset(
    key=MANIFEST_KEY,
    deps=[IMAGES_KEY],
    group_name="archive",
    kinds={"parquet"},
    partitions_def=day_partitions,
    check_specs=[
        dg.AssetCheckSpec(
            "manifest_rows_match_files",
            asset=MANIFEST_KEY,
            blocking=True,
            description="Every row of the day's manifest points at a stored picture that hashes "
            "to the row's SHA-256.",
        )
    ],
)
def image_manifest(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The published night: one row per picture in `manifest/dt=<day>/part-0.parquet`.

    Replaced as a whole, in one step; a rerun that changes nothing writes nothing, and
    rows the plan no longer asks for are marked `superseded`. Read by anyone with
    pandas or DuckDB, and by `archive/summary`.
    """
    from catalog_pipeline.workflows.night.publish_manifest import publish_manifest

    home = pipeline.opened
    day = date.fromisoformat(context.partition_key)
    report = publish_manifest(home, day)
    archive = home.archive
    problems = archive.verify_day(day)
    yield dg.MaterializeResult(
        metadata={
            "dagster/row_count": report.rows,
            "added": report.added,
            "superseded": report.superseded,
            "quarantined": report.quarantined,
            "changed": report.changed,
            "versions": len(archive.versions(day)),
            "manifest": location(report.path),
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
                    "problems": dg.MetadataValue.md(
                        "\n".join(f"- {problem}" for problem in problems[:PROBLEMS_SHOWN])
                    ),
                },
            )
        ],
    )


@dg.asset(key=SUMMARY_KEY, deps=[MANIFEST_KEY], group_name="archive", kinds={"duckdb"})
def summary(pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    """The whole archive in numbers: pictures per night, per SKU and per mode, one query each.

    Counts current rows; superseded ones are counted apart. Read by whoever wonders
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
