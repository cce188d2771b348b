"""Products whose photos are learned from, and as many of their photos that are not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catalog_pipeline.catalog.local import LocalPhotoSource
from catalog_pipeline.catalog.photo_set import load_photo_set
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.records import Photo
from catalog_pipeline.settings import CatalogSettings
from catalog_pipeline.studio.sample_catalog import write_sample_catalog
from catalog_pipeline.workflows.learn.learning_inputs import with_masks
from tests.benchmarks.harness.home import write_real_products


@dataclass(frozen=True)
class Subject:
    """One product; ``source`` is ``photos`` (real ones) or ``studio`` (rendered)."""

    sku: str
    class_noun: str
    source: str
    photos: tuple[Photo, ...]

    @property
    def _half(self) -> int:
        return len(self.photos) // 2

    @property
    def learned(self) -> tuple[Photo, ...]:
        """Every other photo."""
        return self.photos[: 2 * self._half : 2]

    @property
    def held_out(self) -> tuple[Photo, ...]:
        """As many others."""
        return self.photos[1 : 2 * self._half : 2]


def load_subjects(data: Path | None, root: Path) -> list[Subject]:
    """The sample catalog, and the real products of ``data`` where it is given."""
    masker = ProductMasker()
    sources = {"studio": write_sample_catalog(root / "studio")}
    if data is not None:
        sources["photos"] = write_real_products(data, root / "photos", 99)
    return [
        _load(root / source, sku, source, masker)
        for source, skus in sources.items()
        for sku in skus
    ]


def _load(root: Path, sku: str, source: str, masker: ProductMasker) -> Subject:
    photo_source = LocalPhotoSource(root)
    (listing,) = photo_source.list_skus(only=[sku]).listings
    found = load_photo_set(photo_source, listing, CatalogSettings(root=root, settle_seconds=0))
    return Subject(sku, found.sku.class_noun, source, with_masks(found.photos, masker))
