"""``write_cost_report``: what learning and pictures have cost, as a page and as tables."""

import dagster as dg

from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.labels import job_labels
from catalog_pipeline.defs.pictures import page
from catalog_pipeline.defs.resources import PipelineResource


@dg.op
@fails_in_one_line
def write_costs(context: dg.OpExecutionContext, pipeline: PipelineResource) -> None:
    """Write the cost report under `reports/cost` and link it; figures plot over runs."""
    from catalog_pipeline.workflows.upkeep.cost_report import write_cost_report

    written = write_cost_report(pipeline.opened)
    found = written.report
    per_unit = {"cost_per_sku": found.cost_per_sku, "cost_per_picture": found.cost_per_picture}
    context.add_output_metadata(
        {
            "report": page(written.paths["page"], context.instance),
            **{f"{kind} file": dg.MetadataValue.path(str(p)) for kind, p in written.paths.items()},
            "currency": found.prices.currency,
            "cost": found.cost,
            **{name: value for name, value in per_unit.items() if value is not None},
            "learned_skus": found.learned_skus,
            "published": found.published,
            "learning_seconds": round(found.learning_seconds, 1),
            "rendering_seconds": round(found.rendering_seconds, 1),
            "stored_bytes": found.stored_bytes,
            "storage_cost_month": found.storage_cost_month,
            "missing": dg.MetadataValue.md("\n".join(f"- {line}" for line in found.missing)),
        }
    )


@dg.job(
    description="Writes what learning and pictures have cost at the prices of `governance.yaml`: a "
    "page, and Parquet tables of products and of days.",
    executor_def=dg.in_process_executor,
    **job_labels("archive"),
)
def write_cost_report() -> None:
    """One step; see docs/governance/cost.md."""
    write_costs()
