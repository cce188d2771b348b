"""Writes the sample catalog: a folder per SKU with six photos and a card."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from catalog_pipeline.errors import CatalogError, InvalidSkuError
from catalog_pipeline.records import Pixels
from catalog_pipeline.studio.backgrounds import paint_background
from catalog_pipeline.studio.camera import View
from catalog_pipeline.studio.families import build_parts
from catalog_pipeline.studio.palette import PALETTE
from catalog_pipeline.studio.product import Product
from catalog_pipeline.studio.render import Rgba, render_product
from catalog_pipeline.studio.sample_products import SAMPLE_PRODUCTS, SampleProduct
from catalog_pipeline.studio.scenes import Placement, compose
from catalog_pipeline.studio.sprites import Sprite, SpriteLabel, stand_in_square, visible_box

PHOTOS_PER_SKU = 6
PHOTO_SIDE_PX = 256

_JPEG_QUALITY = 92
_HEIGHT_SHARES = (0.62, 0.74)  # of the frame that the product fills
_WIDEST_SHARE = 0.88
_ZOOM = 1.15
_AZIMUTHS = (0.0, 0.35, -0.35, 0.55, -0.15, -0.55)  # the printed front stays in sight
_SETTINGS = (
    "on a white background",
    "on a wooden table",
    "on a marble counter",
    "on green grass",
    "on a gray background",
    "in a living room",
    "on a sandy beach",
    "on a stone floor",
    "on a beige background",
    "on blue fabric",
)


def write_sample_catalog(directory: Path, skus: Sequence[str] | None = None) -> list[str]:
    """Write sample products as photographers deliver them, and return their SKU keys.

    ``<directory>/<sku>/00.jpg`` .. ``05.jpg`` and ``sku.yaml`` (or ``sku.json``).
    The same bytes on every run; a file that is already right is not touched, so a
    second run changes no modification time. Each file appears complete or not at
    all (temporary name, then rename), the card after the photos.

    Args:
        directory: the catalog's root; made where absent, other SKUs in it are left alone.
        skus: which of the sample's products; ``None`` for all.

    Raises:
        InvalidSkuError: a key that the sample catalog does not have.
        CatalogError: a target folder holds other files, or a changed sample file;
            nothing of that folder is overwritten.
    """
    products = _select(skus)
    directory = Path(os.path.realpath(directory))  # a link to a folder that is still to be made
    for product in products:
        _refuse_foreign_files(directory / product.sku, product)
    for product in products:
        _write_product(directory / product.sku, product)
    return [product.sku for product in products]


def render_photos(product: SampleProduct) -> Iterator[Pixels]:
    """The photos of one sample product, ``(PHOTO_SIDE_PX, PHOTO_SIDE_PX, 3)`` each."""
    primary, secondary = PALETTE[product.primary], PALETTE[product.secondary]
    proportions = np.random.default_rng(product.proportions_seed)
    parts = build_parts(product.family, proportions, primary, secondary)
    model = Product(parts, product.pattern, secondary, gloss=0.4)
    number = SAMPLE_PRODUCTS.index(product)
    rng = np.random.default_rng([2, number])
    for index, azimuth in enumerate(_AZIMUTHS):
        view = View(
            azimuth + rng.uniform(-0.06, 0.06),
            rng.uniform(0.12, 0.4),
            rng.uniform(-0.9, 0.9),
            _ZOOM,
        )
        # the first photo is the plain one of a shop, the others wander through the settings
        setting = _SETTINGS[0 if index == 0 else 1 + (number * 4 + index) % (len(_SETTINGS) - 1)]
        background = paint_background(setting, number * PHOTOS_PER_SKU + index, PHOTO_SIDE_PX)
        yield _photograph(render_product(model, view, PHOTO_SIDE_PX), background, rng)


def _photograph(rgba: Rgba, background: Pixels, rng: np.random.Generator) -> Pixels:
    """Stand the product upright, whole and large in front of ``background``."""
    left, top, right, bottom = visible_box(rgba)
    width, height = right - left, bottom - top
    scale = rng.uniform(*_HEIGHT_SHARES) / height
    side = min(max(width, height) * scale, _WIDEST_SHARE)
    side_px = round(side * PHOTO_SIDE_PX)
    margin_px = PHOTO_SIDE_PX - side_px
    left_px = round(margin_px / 2 + rng.uniform(-0.25, 0.25) * margin_px)
    base_px = round(PHOTO_SIDE_PX * rng.uniform(0.86, 0.92))
    # whole pixels, so that placing the sprite does not blur it again
    placement = Placement(
        size=side_px / PHOTO_SIDE_PX,
        center_x=(left_px + side_px / 2) / PHOTO_SIDE_PX,
        base_y=base_px / PHOTO_SIDE_PX,
    )
    sprite = Sprite(stand_in_square(rgba, side_px), SpriteLabel(name="product"))
    return compose(background, [sprite], [placement])[0]


def _select(skus: Sequence[str] | None) -> list[SampleProduct]:
    if skus is None:
        return list(SAMPLE_PRODUCTS)
    known = {product.sku: product for product in SAMPLE_PRODUCTS}
    unknown = sorted(set(skus) - set(known))
    if unknown:
        raise InvalidSkuError(
            f"the sample catalog has no {', '.join(map(repr, unknown))}; "
            f"expected some of: {', '.join(known)}"
        )
    return [known[sku] for sku in dict.fromkeys(skus)]


def _photo_names() -> list[str]:
    return [f"{index:02d}.jpg" for index in range(PHOTOS_PER_SKU)]


def _card_name(product: SampleProduct) -> str:
    return f"sku.{product.card_format}"


def _partial(path: Path) -> Path:
    """Where a file is written before it gets its name; no listing takes it for a photo."""
    return path.with_name(f".{path.name}.part")


def _refuse_foreign_files(folder: Path, product: SampleProduct) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise CatalogError(f"{folder} is not a folder; expected none, or a sample SKU's folder")
    own = {*_photo_names(), _card_name(product)}
    own |= {_partial(folder / name).name for name in own}
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if foreign:
        raise CatalogError(
            f"{folder} holds other files ({', '.join(foreign[:5])}); expected none, or the "
            "sample's own; choose another directory or move them away"
        )
    _refuse_changed_file(folder / _card_name(product), _encode_card(product))


def _write_product(folder: Path, product: SampleProduct) -> None:
    contents: dict[str, bytes] = {}
    for name, pixels in zip(_photo_names(), render_photos(product), strict=True):
        contents[name] = _encode_jpeg(pixels)
        _refuse_changed_file(folder / name, contents[name])
    contents[_card_name(product)] = _encode_card(product)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        _write_once(folder / name, data)


def _refuse_changed_file(path: Path, data: bytes) -> None:
    if path.exists() and path.read_bytes() != data:
        raise CatalogError(
            f"{path} is not the sample's own; nothing of its folder was overwritten; remove the "
            "folder to write the sample afresh, or choose another directory"
        )


def _write_once(path: Path, data: bytes) -> None:
    partial = _partial(path)
    if path.exists():
        partial.unlink(missing_ok=True)
        return
    partial.write_bytes(data)
    partial.replace(path)


def _encode_jpeg(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _encode_card(product: SampleProduct) -> bytes:
    card = product.card()
    if product.card_format == "json":
        text = json.dumps(card, ensure_ascii=False, indent=2) + "\n"
    else:
        text = yaml.safe_dump(card, allow_unicode=True, sort_keys=False)
    return text.encode("utf-8")
