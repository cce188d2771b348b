"""The products of a cell: photos as the product line would see them, masks and features cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from catalog_pipeline.catalog.local import LocalPhotoSource
from catalog_pipeline.catalog.photo_set import load_photo_set
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.learned_looks import photos_alone
from catalog_pipeline.evaluation.product_crops import alone_on_white
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.evaluation.retention import photo_ceiling
from catalog_pipeline.records import Features, Photo, PhotoSet
from catalog_pipeline.settings import CatalogSettings
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.workflows.learn.learning_inputs import photos_hash, with_masks
from tests.benchmarks.harness.home import write_product
from tests.benchmarks.harness.report import PHOTO_SUFFIXES
from tests.benchmarks.learning.suites import Source, Suite


@dataclass(frozen=True)
class Product:
    """One product, ready to be learned: ``features[encoder]`` is ``(photos, width)``.

    ``crops[encoder]`` are features of the product cut out of its photos, ``(masked photos,
    width)``; no encoder has any where too few photos have a believable mask.
    """

    sku: str
    name: str
    class_noun: str
    photos_hash: str
    photos: tuple[Photo, ...]
    features: Mapping[str, Features]
    crops: Mapping[str, Features]

    def with_photos(self, count: int) -> Product:
        """To learn from: at most ``count`` photos, evenly spaced by name; all ``crops``."""
        last = len(self.photos) - 1
        if count > last:
            return self
        kept = sorted({round(place * last / max(1, count - 1)) for place in range(count)})
        return replace(
            self,
            photos=tuple(self.photos[index] for index in kept),
            features={name: rows[kept] for name, rows in self.features.items()},
        )


def ceilings(products: Sequence[Product], encoders: Collection[str]) -> dict[str, Any]:
    """What the photos of each product reach among themselves, by encoder, whole and cut out."""
    return {
        "ceilings": {e: {p.sku: photo_ceiling(p.features[e]) for p in products} for e in encoders},
        "crop_ceilings": {
            e: {p.sku: photo_ceiling(p.crops[e]) for p in products if p.crops} for e in encoders
        },
    }


class ProductShelf:
    """Products of a data folder by name; each is loaded and encoded once a process.

    The folder holds ``photos/<name>/*`` with ``photos/meta.json``, and
    ``household_catalog/{catalog.json,views/}``. Masks and features are kept in
    ``objects``, so a second process computes nothing.
    """

    def __init__(
        self,
        data: Path,
        home: Path,
        encoders: Mapping[str, FeatureEncoder],
        open_masker: Callable[[], ProductMasker] = ProductMasker,
    ) -> None:
        self._data = data
        self._folder = home / "products"
        self._objects = LocalObjectStore(home)
        self._encoders = encoders
        self._open_masker = open_masker
        self._masker: ProductMasker | None = None
        self._loaded: dict[str, Product] = {}

    def names(self, suite: Suite) -> tuple[str, ...]:
        """The suite's products in order 0."""
        if suite.source == "photos":
            return suite.products
        # By number, evenly over the catalogue: neighbours in it are of one maker.
        ids = sorted(self._household())
        stride = max(1, len(ids) // suite.household)
        return tuple(f"household-{number:04d}" for number in ids[::stride][: suite.household])

    def masker(self) -> ProductMasker:
        """The mask model, opened when it is first needed."""
        if self._masker is None:
            self._masker = self._open_masker()
        return self._masker

    def load(self, source: Source, name: str) -> Product:
        """The product called ``name``.

        Raises:
            ConfigurationError: the data folder has no such product.
        """
        if name not in self._loaded:
            sku = name.replace("_", "-")
            folder = self._folder / sku
            if source == "photos":
                self._copy_photos(name, folder)
            else:
                self._copy_views(name, folder)
            self._loaded[name] = self._prepare(sku)
        return self._loaded[name]

    def _prepare(self, sku: str) -> Product:
        settings = CatalogSettings(root=self._folder, settle_seconds=0)
        source = LocalPhotoSource(self._folder)
        (listing,) = source.list_skus(only=[sku]).listings
        photo_set = load_photo_set(source, listing, settings)
        key = f"products-seen/{sku}-{self._digest(photo_set)}.safetensors"
        if not self._objects.exists(key):
            self._objects.put(key, self._look(photo_set))
        seen = load(self._objects.read(key).data)
        photos = tuple(
            replace(photo, mask=seen.get(f"mask/{index}"))
            for index, photo in enumerate(photo_set.photos)
        )
        return Product(
            sku=sku,
            name=photo_set.sku.name,
            class_noun=photo_set.sku.class_noun,
            photos_hash=photos_hash(photo_set),
            photos=photos,
            features={name: seen[f"features/{name}"] for name in self._encoders},
            crops={n: seen[f"crops/{n}"] for n in self._encoders if f"crops/{n}" in seen},
        )

    def _look(self, photo_set: PhotoSet) -> bytes:
        """Masks (where one is believable) and features of every photo and of what the masks
        cut out, as safetensors bytes."""
        photos: Sequence[Photo] = photo_set.photos
        if any(photo.mask is None for photo in photos):
            photos = with_masks(photos, self.masker())
        seen: dict[str, np.ndarray] = {
            f"mask/{index}": np.ascontiguousarray(photo.mask)
            for index, photo in enumerate(photos)
            if photo.mask is not None
        }
        alone = [alone_on_white(*view) for view in photos_alone(photos)]
        for name, encoder in self._encoders.items():
            seen[f"features/{name}"] = encoder.encode([photo.pixels for photo in photos])
            if alone:
                seen[f"crops/{name}"] = encoder.encode(alone)
        return save(seen)

    def _digest(self, photo_set: PhotoSet) -> str:
        names = [photo.sha256 for photo in photo_set.photos] + sorted(self._encoders)
        names += ["crops"]  # what is kept beside masks and features
        return hashlib.sha256("|".join(names).encode()).hexdigest()[:16]

    def _copy_photos(self, name: str, folder: Path) -> None:
        meta = self._json("photos/meta.json")
        source = self._data / "photos" / name
        if name not in meta or not source.is_dir():
            raise ConfigurationError(
                f"no product {name!r} under {self._data / 'photos'}; expected a folder of photos "
                f"and an entry in meta.json, which has {', '.join(sorted(meta))}; pass the data "
                "folder with --data"
            )
        photos = sorted(p for p in source.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
        write_product(folder, photos, meta[name]["class_noun"])

    def _copy_views(self, name: str, folder: Path) -> None:
        entry = self._household()[int(name.rpartition("-")[2])]
        views = [self._data / "household_catalog" / "views" / view for view in entry["views"]]
        write_product(folder, views, entry["name"].lower())

    def _household(self) -> dict[int, dict[str, Any]]:
        return {int(entry["id"]): entry for entry in self._json("household_catalog/catalog.json")}

    def _json(self, relative: str) -> Any:
        path = self._data / relative
        if not path.is_file():
            raise ConfigurationError(
                f"no {relative} in {self._data}; expected the data folder of the benchmarks; "
                "pass it with --data"
            )
        return json.loads(path.read_text("utf-8"))
