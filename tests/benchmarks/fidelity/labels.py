"""Products with a label that can be read, out of every second one of the household catalog."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catalog_pipeline.catalog.decoding import decode_photo
from catalog_pipeline.evaluation.matting import cut_out_product
from catalog_pipeline.evaluation.text_reading import TextReader, read_reference
from catalog_pipeline.generation.compositing import compose, place, to_pixels
from catalog_pipeline.records import Concept, Cutout, JudgedPhoto, Photo, ProductPhotos, Region
from catalog_pipeline.settings import CatalogSettings
from catalog_pipeline.workflows.models import product_masker

EVERY = 2
_SIDE = 368
"""About as high as a product stands in an exact picture of 512 px."""


@dataclass(frozen=True)
class LabelledProduct:
    """A product that nothing was learned of, with one photo."""

    concept: Concept
    photos: ProductPhotos
    cutout: Cutout


def labelled_products(
    data: Path, reader: TextReader, settings: CatalogSettings
) -> Iterator[LabelledProduct]:
    """Those whose first view has text that is read with confidence."""
    renders = data / "household_catalog"
    products = json.loads((renders / "catalog.json").read_text("utf-8"))
    for product in sorted(products, key=lambda one: int(one["id"]))[::EVERY]:
        path = renders / "views" / product["views"][0]
        content = path.read_bytes()
        decoded = decode_photo(content, settings)
        sha256 = hashlib.sha256(content).hexdigest()
        photo = Photo(path.name, sha256, decoded.pixels, decoded.mask)
        cutout = cut_out_product(photo, product_masker())
        height, width, _ = cutout.rgba.shape
        paper = np.ones((_SIDE, _SIDE, 3), np.float32)
        shown = place(cutout, Region(0, 0, min(1, width / height), min(1, height / width)),
                      _SIDE, _SIDE)  # fmt: skip
        if not read_reference(reader, to_pixels(compose(paper, [shown]))):
            continue
        sku = f"household-{int(product['id']):04d}"
        noun = "".join(c if c.isalpha() else " " for c in product["name"].lower())
        concept = Concept(sku, product["name"], " ".join(noun.split()[:3]), "", (), "", 0)
        judged = JudgedPhoto(path.name, sha256, "", width / height, height)
        yield LabelledProduct(concept, ProductPhotos(sku, photos=(judged,)), cutout)
