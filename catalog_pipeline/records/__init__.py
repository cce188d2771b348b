"""The records that cross rooms: frozen, plain, free of torch, pyarrow and Dagster.

A room takes and gives these; nothing else is shared between ``catalog``,
``learning``, ``generation``, ``evaluation`` and ``stores``.
"""

from catalog_pipeline.records.archive import (
    ArchiveRow,
    ManifestReport,
    RenderReport,
    SkuPassRate,
    collections_of,
    sources_of,
)
from catalog_pipeline.records.arrays import Features, Palette, Pixels
from catalog_pipeline.records.catalog import (
    Cutout,
    IndexReport,
    IndexRow,
    JudgedPhoto,
    Photo,
    PhotoRef,
    PhotoSet,
    PhotoUse,
    ProductPhotos,
    RefusedFile,
    Sku,
    SkuListing,
    SkuStatus,
    names_photo,
)
from catalog_pipeline.records.costs import NightCost, SkuCost
from catalog_pipeline.records.generation import (
    Anchor,
    AttentionControl,
    NightPlan,
    Region,
    RenderJob,
    Source,
)
from catalog_pipeline.records.learning import (
    COLOR_SPREAD,
    SHARED,
    AdapterVersion,
    Concept,
    LearningRow,
    LearnOutcome,
    concept_part,
    curve_part,
    memory_part,
    part_owner,
)
from catalog_pipeline.records.studies import StudyCell, StudyRow

__all__ = [
    "COLOR_SPREAD",
    "SHARED",
    "AdapterVersion",
    "Anchor",
    "ArchiveRow",
    "AttentionControl",
    "Concept",
    "Cutout",
    "Features",
    "IndexReport",
    "IndexRow",
    "JudgedPhoto",
    "LearnOutcome",
    "LearningRow",
    "ManifestReport",
    "NightCost",
    "NightPlan",
    "Palette",
    "Photo",
    "PhotoRef",
    "PhotoSet",
    "PhotoUse",
    "Pixels",
    "ProductPhotos",
    "RefusedFile",
    "Region",
    "RenderJob",
    "RenderReport",
    "Sku",
    "SkuCost",
    "SkuListing",
    "SkuPassRate",
    "SkuStatus",
    "Source",
    "StudyCell",
    "StudyRow",
    "collections_of",
    "concept_part",
    "curve_part",
    "memory_part",
    "names_photo",
    "part_owner",
    "sources_of",
]
