"""Products for known scenes: cut-outs of some photos, memories of the others, cached."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import load_file, save_file

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.product_mask import MaskPixels, ProductMasker, judged
from catalog_pipeline.records import Pixels
from catalog_pipeline.studio.sample_catalog import render_photos
from catalog_pipeline.studio.sample_products import SAMPLE_PRODUCTS, SampleProduct
from catalog_pipeline.studio.sprites import Sprite, SpriteLabel
from tests.benchmarks.generation.known_scenes import PASTED_PHOTOS, KnownProduct, cut_out
from tests.benchmarks.harness.report import PHOTO_SUFFIXES

HANDHELD = ("carton", "yoghurt pack")
"""Classes photographed in a hand: their cut-outs are of the hand too, so they are only rivals."""
HOUSEHOLD = (0, 35, 69, 100, 137, 204, 170, 311, 496, 554)
"""Products of the household catalogue that take part, by number."""
MAX_PHOTOS = 6
_SIDE_PX = 256


def known_products(
    data: Path,
    home: Path,
    encoder: FeatureEncoder,
    open_masker: Callable[[], ProductMasker] = ProductMasker,
) -> dict[str, KnownProduct]:
    """Real products of ``data`` (photos and household), and the studio's sample products.

    Cut-outs and features are kept in ``home/known-products``; a second call computes nothing.

    Raises:
        ConfigurationError: ``data`` is not the data folder of the benchmarks.
    """
    cache = home / "known-products"
    cache.mkdir(parents=True, exist_ok=True)
    products = {}
    masker: ProductMasker | None = None
    for sku, noun, read in _sources(data):
        path = cache / f"{sku}-{encoder.name}.safetensors"
        if not path.exists():
            masker = masker or open_masker()
            pasted = 0 if noun in HANDHELD else PASTED_PHOTOS
            save_file(_prepare(read(), encoder, masker, pasted), path)
        tensors = load_file(path)
        sprites = tuple(Sprite(rgba, SpriteLabel("product")) for rgba in tensors["sprites"])
        products[sku] = KnownProduct(sku, noun, sprites, tensors["memory"])
    return products


Photo = tuple[Pixels, MaskPixels | None]


def _prepare(
    photos: Sequence[Photo], encoder: FeatureEncoder, masker: ProductMasker, count: int
) -> dict[str, np.ndarray]:
    """Cut-outs of the first ``count`` photos with a usable mask; features of all others."""
    pasted: dict[int, Sprite] = {}
    for index, (photo, alpha) in enumerate(photos):
        if len(pasted) < count:
            found = masker.mask(photo) if alpha is None else judged(alpha)
            if found.usable:
                pasted[index] = cut_out(photo, found.mask)
    others = [photo for index, (photo, _) in enumerate(photos) if index not in pasted]
    rgba = [sprite.rgba for sprite in pasted.values()]
    return {
        "sprites": np.stack(rgba) if rgba else np.zeros((0, 1, 1, 4), np.uint8),
        "memory": encoder.encode(others),
    }


Source = tuple[str, str, Callable[[], list[Photo]]]


def _sources(data: Path) -> list[Source]:
    """``(sku, class noun, read its photos)`` of every product."""
    found: list[Source] = []
    for name, entry in sorted(_json(data, "photos/meta.json").items()):
        photos = [
            p for p in sorted((data / "photos" / name).iterdir()) if p.suffix in PHOTO_SUFFIXES
        ]
        found.append((name.replace("_", "-"), entry["class_noun"], _reader(photos)))
    views = data / "household_catalog" / "views"
    household = {int(entry["id"]): entry for entry in _json(data, "household_catalog/catalog.json")}
    for number in HOUSEHOLD:
        entry = household[number]
        reader = _reader([views / view for view in entry["views"]])
        found.append((f"household-{number:04d}", entry["name"].lower(), reader))
    for product in SAMPLE_PRODUCTS:
        found.append((product.sku, product.family, partial(_rendered, product)))
    return found


def _rendered(product: SampleProduct) -> list[Photo]:
    return [(photo, None) for photo in render_photos(product)]


def _reader(paths: Sequence[Path]) -> Callable[[], list[Photo]]:
    return lambda: [_read(path) for path in paths[:MAX_PHOTOS]]


def _read(path: Path) -> Photo:
    """Upright, small, on white; with its own opacity where the file carries one."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * _SIDE_PX, 2 * _SIDE_PX))
        upright = ImageOps.exif_transpose(image)
        transparent = upright.has_transparency_data
        rgba = upright.convert("RGBA")
    rgba.thumbnail((_SIDE_PX, _SIDE_PX))
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    pixels = np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return pixels, np.asarray(rgba)[..., 3].copy() if transparent else None


def _json(data: Path, relative: str) -> Any:
    path = data / relative
    if not path.is_file():
        raise ConfigurationError(
            f"no {relative} in {data}; expected the data folder of the benchmarks; pass it "
            "with --data"
        )
    return json.loads(path.read_text("utf-8"))
