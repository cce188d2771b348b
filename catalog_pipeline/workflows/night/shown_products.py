"""What the pages of a night say of products and pictures, in the language of the page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from catalog_pipeline.catalog.photo_set import load_card
from catalog_pipeline.errors import CatalogPipelineError, ObjectNotFoundError
from catalog_pipeline.records import AdapterVersion, ArchiveRow, SkuListing, sources_of
from catalog_pipeline.settings import QualitySettings
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.crop_scores import crop_faults
from catalog_pipeline.workflows.night.picture_gate import picture_faults
from catalog_pipeline.workflows.report_pages import first_photos, listed_products

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.gallery import GalleryProduct
    from catalog_pipeline.evaluation.page_texts import PageTexts


def shown_products(
    home: Home,
    rows: Sequence[ArchiveRow],
    language: str,
    *,
    others: Mapping[str, str] = MappingProxyType({}),
    with_photo: Collection[str] | None = None,
) -> dict[str, GalleryProduct]:
    """The products of ``rows`` and ``others`` (SKU -> name), as a page in ``language`` shows them.

    A product is called as its card says in that language, else as it was learned, else as
    ``others`` has it, else by its SKU. ``with_photo`` has the SKUs whose photo is shown,
    ``None`` for all.
    """
    from catalog_pipeline.evaluation.gallery import GalleryProduct

    skus = sorted({sku for row in rows for sku in row.skus} | others.keys())
    listings = listed_products(home, skus)
    learned: dict[str, str] = {}
    ceilings: dict[str, float | None] = {}
    for record in rendering_versions(home, rows).values():
        for concept in record.concepts if record else ():
            learned[concept.sku] = concept.name
            ceilings[concept.sku] = concept.metrics.get("ceiling")
    found = {}
    for sku in skus:
        listing = listings.get(sku)
        name = _name_on_card(home, listing, language) if listing else ""
        wanted = listing is not None and (with_photo is None or sku in with_photo)
        photos = first_photos(home, listing, 1) if listing and wanted else []
        found[sku] = GalleryProduct(
            sku,
            name or learned.get(sku) or others.get(sku) or sku,
            photos[0] if photos else None,
            ceilings.get(sku),
        )
    return found


def rendering_versions(
    home: Home, rows: Sequence[ArchiveRow]
) -> dict[tuple[str, str], AdapterVersion | None]:
    """(collection, version) -> its record, of every version that drew a product of ``rows``.

    ``None`` of a deleted one: its pictures are still worth showing.
    """
    found: dict[tuple[str, str], AdapterVersion | None] = {}
    for collection, version in sorted({s for row in rows for s in sources_of(row).values()}):
        store = home.adapters(collection)
        try:
            now = store.present_name(version)
            found[collection, version] = store.read(now) if now else None
        except ObjectNotFoundError:
            found[collection, version] = None
    return found


def _name_on_card(home: Home, listing: SkuListing, language: str) -> str:
    """What the card calls the product in ``language``; empty where it does not say."""
    try:
        return load_card(home.photo_source, listing).names.get(language, "")
    except CatalogPipelineError:
        return ""  # The index says what is wrong with a card; a page shows what is known.


def faults_in_words(row: ArchiveRow, texts: PageTexts) -> str:
    """What is wrong with a picture that did not pass, in the language of ``texts``."""
    return "; ".join(_gate_faults(row, texts))


def all_faults(row: ArchiveRow, texts: PageTexts, quality: QualitySettings) -> list[str]:
    """The same one by one, then the figures of each product that are out of bounds."""
    figures = [
        texts.say(f"fault.{fault.name}", sku=fault.sku, value=fault.value, bound=fault.bound)
        for fault in crop_faults(row.skus, row.scores, quality)
    ]
    return [*_gate_faults(row, texts), *figures]


def _gate_faults(row: ArchiveRow, texts: PageTexts) -> list[str]:
    return [
        texts.count("fault.too_many", fault.count)
        if fault.kind == "too_many"
        else texts.say(f"fault.{fault.kind}", skus=texts.listed(list(fault.skus)))
        for fault in picture_faults(row)
    ]
