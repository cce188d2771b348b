"""``catalog/index`` and ``catalog/photo_set``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from catalog_pipeline.defs.catalog.index_report import (
    INDEX_KEY,
    USABLE,
    index_metadata,
    usable_check,
)
from catalog_pipeline.defs.catalog.requests import MAX_SKUS_PER_RUN, usable_rows
from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.freshness import every_night
from catalog_pipeline.defs.labels import asset_labels, check_labels, column_schema
from catalog_pipeline.defs.metadata import location, table
from catalog_pipeline.defs.pictures import InARun, picture
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.defs.sku_shards import (
    SKU_SHARDS,
    SkuShard,
    add_partitions,
    sku_placement,
)
from catalog_pipeline.errors import CatalogError
from catalog_pipeline.records import PhotoSet

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

PHOTO_SET_KEY = dg.AssetKey(["catalog", "photo_set"])
_WARNINGS_LOGGED_AT_MOST = 20


@dg.asset(
    key=INDEX_KEY,
    **asset_labels("catalog", kinds={"parquet"}, cost="seconds"),
    metadata=column_schema("catalog_index"),
    freshness_policy=every_night(from_hour=1, until_hour=2),
    check_specs=[
        dg.AssetCheckSpec(
            USABLE,
            asset=INDEX_KEY,
            description="Every product in the catalog has a photo set that can be learned. "
            "A warning, never a stop: one bad product must not hold up the others. "
            "**Grain:** one result over the whole catalog, at every change of the index. "
            "**Partition:** none. **Read by:** operators, who find each product with its reason "
            "and the one thing to do.",
            **check_labels("catalog", kinds={"parquet"}),
        )
    ],
)
@fails_in_one_line
def catalog_index(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Every SKU ever seen, in `catalog/index.parquet`.

    Lists the product folders, decodes nothing. Settled, usable SKUs become `sku`
    partitions; a SKU that is gone becomes `retired` and keeps its partition. An empty
    listing is refused. The table `products` has every SKU with its status, the reason of a
    failed one, and what to do; those that wait for a person come first.

    **Grain:** one row per SKU. **Partition:** none. **Read by:** operators, the
    `catalog_watch` sensor and `learning/concept`.
    """
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index

    home = pipeline.opened
    report = refresh_index(home)
    for warning in report.warnings[:_WARNINGS_LOGGED_AT_MOST]:
        context.log.warning(warning)
    catalog = home.settings.catalog
    before = sku_placement(context.instance, catalog)
    usable = usable_rows(report.rows, catalog)
    placed = before.with_new((row.sku for row in usable), catalog.shards.skus)
    add_partitions(context.instance, placed.added_since(before))
    if (last := len(placed.keys[-1])) > catalog.shards.skus:
        context.log.warning(
            f"the partition set {SKU_SHARDS[-1].set_name!r} holds {last} SKUs; expected at most "
            f"{catalog.shards.skus}; raise shards.count in catalogs.yaml and reload"
        )
    yield dg.MaterializeResult(
        metadata=index_metadata(report, home), check_results=[usable_check(home)]
    )


def photo_set_asset(shard: SkuShard) -> dg.AssetsDefinition:
    """``catalog/photo_set`` of one shard."""

    @dg.asset(
        key=shard.key(PHOTO_SET_KEY),
        deps=[INDEX_KEY],
        **asset_labels("catalog", kinds={"pillow"}, cost="seconds"),
        partitions_def=shard.partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(MAX_SKUS_PER_RUN),
    )
    @fails_in_one_line
    def photo_set(
        context: dg.AssetExecutionContext, pipeline: PipelineResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        """The usable photos of a SKU, decoded, upright and bounded.

        A set with too few usable photos stays unmaterialized and fails the run after every
        other set of the range has been recorded. Learning validates its own sets again, so
        a run of this asset is for looking: which photos are used, and why the others are not.

        **Grain:** one photo set per SKU. **Partition:** `sku`. **Read by:** operators and
        `learning/concept`.
        """
        from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set

        usable: dict[str, dict[str, Any]] = {}
        refused: dict[str, str] = {}
        for sku in context.partition_keys:
            try:
                photos = validate_photo_set(pipeline.opened, sku)
                usable[sku] = photo_set_metadata(photos, pipeline.opened, context)
            except CatalogError as error:
                refused[sku] = str(error)
                context.log.error(f"{sku}: {error}")
        if refused:
            # A result would materialize the whole range; events materialize the usable ones.
            for sku, metadata in usable.items():
                context.log_event(photo_set_event(shard, sku, metadata))
            raise _refusal(pipeline.opened, refused, len(context.partition_keys))
        for sku, metadata in usable.items():
            context.add_asset_metadata(metadata, partition_key=sku)
        yield dg.MaterializeResult()

    return photo_set


photo_sets = [photo_set_asset(shard) for shard in SKU_SHARDS]


def _refusal(home: "Home", refused: dict[str, str], asked: int) -> dg.Failure:
    from catalog_pipeline.workflows.upkeep.next_steps import photo_folder

    return dg.Failure(
        description=f"{len(refused)} of {asked} photo sets cannot be "
        "used: " + "; ".join(f"{sku}: {reason}" for sku, reason in refused.items()),
        metadata={
            "refused": table(
                [
                    {"sku": sku, "reason": reason, "photos": photo_folder(home, sku)}
                    for sku, reason in refused.items()
                ],
                {"sku": "string", "reason": "string", "photos": "string"},
            )
        },
        allow_retries=False,
    )


def photo_set_event(shard: SkuShard, sku: str, metadata: dict[str, Any]) -> dg.AssetMaterialization:
    """The event that records one usable photo set, in whatever run it was validated."""
    key = shard.key(PHOTO_SET_KEY)
    return dg.AssetMaterialization(asset_key=key, partition=sku, metadata=metadata)


def photo_set_metadata(photos: PhotoSet, home: "Home", run: InARun | None = None) -> dict[str, Any]:
    """What a person wants to see of a photo set."""
    from catalog_pipeline.workflows.upkeep.next_steps import photo_folder

    sku = photos.sku
    metadata: dict[str, Any] = {
        "photos": picture(photo_sheet(photos), alt=sku.sku, run=run),
        "dagster/row_count": len(photos.photos),
        "photos used": len(photos.photos),
        "photos left out": len(photos.refused),
        "name": sku.name,
        "class_noun": sku.class_noun,
        "class_noun_as_typed": sku.typed_noun,
        "collection": sku.collection,
        "content_hash": photos.content_hash,
        "folder": location(photo_folder(home, sku.sku)),
    }
    if photos.warnings:
        metadata["warnings"] = table(
            [{"warning": warning} for warning in photos.warnings], {"warning": "string"}
        )
    if photos.refused:
        metadata["left out"] = table(
            [{"file": item.key, "reason": item.reason} for item in photos.refused],
            {"file": "string", "reason": "string"},
        )
    return metadata


def photo_sheet(photos: PhotoSet) -> bytes:
    """The first photos of a set as a PNG, with a line of what they are."""
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png

    used, left = len(photos.photos), len(photos.refused)
    caption = f"{photos.sku.sku}: {used} photos used, {left} left out"
    shown = [photo.pixels for photo in photos.photos[:6]]
    return encode_png(contact_sheet([shown], captions=[caption], cell_px=108))
