"""``catalog/index`` and ``catalog/photo_set``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from catalog_pipeline.defs.catalog.requests import MAX_SKUS_PER_RUN, usable_rows
from catalog_pipeline.defs.metadata import location, picture, table
from catalog_pipeline.defs.partitions import sku_partitions
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.errors import CatalogError
from catalog_pipeline.records import IndexReport, PhotoSet

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

INDEX_KEY = dg.AssetKey(["catalog", "index"])
PHOTO_SET_KEY = dg.AssetKey(["catalog", "photo_set"])
_REFUSED_ROWS_AT_MOST = 1000
_WARNINGS_LOGGED_AT_MOST = 20


@dg.asset(key=INDEX_KEY, group_name="catalog", kinds={"parquet"})
def catalog_index(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult[None]:
    """Every SKU ever seen: one row per SKU in `catalog/index.parquet`.

    Lists the product folders, decodes nothing. Settled, usable SKUs become `sku`
    partitions; a SKU that is gone becomes `retired` and keeps its partition. An empty
    listing is refused. Read by the `catalog_watch` sensor and by learning.
    """
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index

    report = refresh_index(pipeline.opened)
    for warning in report.warnings[:_WARNINGS_LOGGED_AT_MOST]:
        context.log.warning(warning)
    known = set(context.instance.get_dynamic_partitions(str(sku_partitions.name)))
    usable = usable_rows(report.rows, pipeline.opened.settings.catalog)
    fresh = [row.sku for row in usable if row.sku not in known]
    if fresh:
        context.instance.add_dynamic_partitions(str(sku_partitions.name), fresh)
    return dg.MaterializeResult(metadata=index_metadata(report, pipeline.opened))


def index_metadata(report: IndexReport, home: "Home") -> dict[str, Any]:
    """What a person wants to know about a listing: counts, and what was refused and why."""
    from catalog_pipeline.stores.index import INDEX_KEY as INDEX_OBJECT

    metadata: dict[str, Any] = {
        "dagster/row_count": len(report.rows),
        "added": len(report.added),
        "changed": len(report.changed),
        "retired": len(report.retired),
        "still_moving": len(report.unsettled),
        "refused_files": len(report.refused),
        "index": location(home.objects.uri(INDEX_OBJECT)),
        "catalog_root": dg.MetadataValue.path(str(home.settings.catalog_root)),
    }
    for status in sorted({row.status for row in report.rows}):
        metadata[f"status/{status}"] = sum(row.status == status for row in report.rows)
    moved = {"added": report.added, "changed": report.changed, "retired": report.retired}
    changes = [{"sku": sku, "change": change} for change, skus in moved.items() for sku in skus]
    if changes:
        metadata["changes"] = table(changes, {"sku": "string", "change": "string"})
    if report.renamed:
        metadata["renamed"] = table(
            [{"sku": sku, "was": before} for sku, before in report.renamed.items()],
            {"sku": "string", "was": "string"},
        )
    if report.refused:
        metadata["refused"] = table(
            [
                {"file": item.key, "reason": item.reason}
                for item in report.refused[:_REFUSED_ROWS_AT_MOST]
            ],
            {"file": "string", "reason": "string"},
        )
    if report.warnings:
        metadata["warnings"] = table(
            [{"warning": w} for w in report.warnings], {"warning": "string"}
        )
    return metadata


@dg.asset(
    key=PHOTO_SET_KEY,
    deps=[INDEX_KEY],
    group_name="catalog",
    kinds={"pillow"},
    partitions_def=sku_partitions,
    backfill_policy=dg.BackfillPolicy.multi_run(MAX_SKUS_PER_RUN),
)
def photo_set(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The usable photos of a SKU, decoded, upright and bounded: one photo set per `sku`.

    A set with too few usable photos stays unmaterialized and fails the run after every
    other set of the range has been recorded. Learning validates its own sets again, so
    a run of this asset is for looking, or for a photographer's second try.
    """
    from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set

    usable: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    for sku in context.partition_keys:
        try:
            photos = validate_photo_set(pipeline.opened, sku)
            usable[sku] = photo_set_metadata(photos, pipeline.opened)
        except CatalogError as error:
            refused[sku] = str(error)
            context.log.error(f"{sku}: {error}")
    if refused:
        # A result would materialize the whole range; events materialize the usable ones.
        for sku, metadata in usable.items():
            context.log_event(photo_set_event(sku, metadata))
        raise dg.Failure(
            description=f"{len(refused)} of {len(context.partition_keys)} photo sets cannot be "
            "used: " + "; ".join(f"{sku}: {reason}" for sku, reason in refused.items()),
            metadata={
                "refused": table(
                    [{"sku": sku, "reason": reason} for sku, reason in refused.items()],
                    {"sku": "string", "reason": "string"},
                )
            },
            allow_retries=False,
        )
    for sku, metadata in usable.items():
        context.add_asset_metadata(metadata, partition_key=sku)
    yield dg.MaterializeResult()


def photo_set_event(sku: str, metadata: dict[str, Any]) -> dg.AssetMaterialization:
    """The event that records one usable photo set, in whatever run it was validated."""
    return dg.AssetMaterialization(asset_key=PHOTO_SET_KEY, partition=sku, metadata=metadata)


def photo_set_metadata(photos: PhotoSet, home: "Home") -> dict[str, Any]:
    """What a person wants to see of a photo set."""
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png

    sheet = contact_sheet([[photo.pixels for photo in photos.photos[:8]]], cell_px=96)
    metadata: dict[str, Any] = {
        "photos": picture(encode_png(sheet), alt=photos.sku.sku),
        "dagster/row_count": len(photos.photos),
        "name": photos.sku.name,
        "class_noun": photos.sku.class_noun,
        "class_noun_as_typed": photos.sku.typed_noun,
        "refused_files": len(photos.refused),
        "content_hash": photos.content_hash,
    }
    if home.settings.catalog.s3 is None:
        folder = home.settings.catalog_root / photos.sku.sku
        metadata["folder"] = dg.MetadataValue.path(str(folder))
    if photos.refused:
        metadata["refused"] = table(
            [{"file": item.key, "reason": item.reason} for item in photos.refused],
            {"file": "string", "reason": "string"},
        )
    return metadata
