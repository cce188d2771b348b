"""Pictures as data sets: WebDataset, the ImageFolder of Hugging Face, and COCO boxes.

Every writer takes the pictures one after the other, in the order of their ids, and gives the
same bytes for the same pictures: no time of day, no owner, no order of a hash.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from catalog_pipeline.records import ArchiveRow, sources_of
from catalog_pipeline.stores.keys import sha256_hex

PICTURES_PER_SHARD = 1000

RECORD_FIELDS = (
    *("image_id", "text", "skus", "products", "scores", "day", "sha256", "pixels_sha256"),
    *("width", "height", "layout", "mode", "verdict", "policy", "negative_prompt", "seed"),
    *("sampler", "steps", "guidance", "base_model_hash", "collection", "adapter_version"),
    *("plan_hash", "created_utc"),
)
"""What is told of a picture: columns of the manifest, some of them made plainer."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom exclusive."""


@dataclass(frozen=True)
class ProductInPicture:
    """A product that a picture names.

    ``box_source`` is ``placed`` where a photo was put there, ``planned`` where the picture was
    drawn and the box is the region that the plan gave to the product, empty without a box.
    """

    sku: str
    name: str
    class_noun: str
    box: Box | None
    box_source: str


@dataclass(frozen=True)
class Example:
    """One picture of a data set: its row, and its products from left to right."""

    row: ArchiveRow
    products: tuple[ProductInPicture, ...]

    @property
    def stem(self) -> str:
        """Name of its files: the image id where it is a plain one, else its hash."""
        image_id = self.row.image_id
        return image_id if re.fullmatch(r"[A-Za-z0-9_-]{1,200}", image_id) else _hashed(image_id)


Pictures = Iterator[tuple[Example, bytes]]
"""Examples, each with its PNG file."""


def record_of(example: Example) -> dict[str, Any]:
    """What is told of a picture, as plain data; the same keys for every one.

    Maps are lists of objects, so that readers that infer a schema find one for all.
    """
    row = example.row
    made = {
        "text": row.prompt,
        "skus": list(row.skus),
        "products": [_product_record(row, product) for product in example.products],
        "scores": [{"score": name, "value": row.scores[name]} for name in sorted(row.scores)],
        "day": row.day.isoformat(),
        "created_utc": row.created_utc.isoformat(),
    }
    return {name: made[name] if name in made else getattr(row, name) for name in RECORD_FIELDS}


def write_web_dataset(folder: Path, pictures: Pictures) -> None:
    """``train/000000.tar``, ...: of each picture ``<image_id>.png``, ``.json`` and ``.txt``."""
    (folder / "train").mkdir()
    shard = 0
    while (first := next(pictures, None)) is not None:
        with tarfile.open(folder / f"train/{shard:06}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for example, png in chain([first], islice(pictures, PICTURES_PER_SHARD - 1)):
                _add_example(tar, example, png)
        shard += 1


def write_image_folder(folder: Path, pictures: Pictures) -> None:
    """``train/<image_id>.png`` and ``train/metadata.jsonl``, a line a picture.

    ``file_name`` is relative to the metadata; ``objects`` has the boxes as the loader's
    object detection wants them: left, top, width, height.
    """
    target = folder / "train"
    target.mkdir()
    with (target / "metadata.jsonl").open("w", encoding="utf-8") as lines:
        for example, png in pictures:
            name = f"{example.stem}.png"
            (target / name).write_bytes(png)
            boxed = [product for product in example.products if product.box is not None]
            objects = {
                "bbox": [_x_y_width_height(product.box) for product in boxed if product.box],
                "categories": [product.sku for product in boxed],
            }
            line = {"file_name": name, **record_of(example), "objects": objects}
            lines.write(_json(line) + "\n")


def write_coco(folder: Path, pictures: Pictures) -> None:
    """``images/<image_id>.png`` and ``annotations.json`` with a box a product.

    Categories are SKUs, their supercategory is the class noun. An annotation says with
    ``source`` where its box comes from (:class:`ProductInPicture`), ``info`` how many there are
    of each, and how many products have none.
    """
    target = folder / "images"
    target.mkdir()
    images: list[dict[str, Any]] = []
    products: list[tuple[int, ProductInPicture]] = []
    for example, png in pictures:
        name = f"{example.stem}.png"
        (target / name).write_bytes(png)
        number, row = len(images) + 1, example.row
        images.append(
            {
                "id": number,
                "file_name": name,
                "width": row.width,
                "height": row.height,
                "date_captured": row.created_utc.isoformat(),
                "image_id": row.image_id,
                "caption": row.prompt,
            }
        )
        products += [(number, product) for product in example.products]
    content = _coco(images, products)
    (folder / "annotations.json").write_text(_json(content) + "\n", encoding="utf-8")


def _coco(
    images: Sequence[Mapping[str, Any]], products: Sequence[tuple[int, ProductInPicture]]
) -> dict[str, Any]:
    nouns = {product.sku: product.class_noun for _, product in products}
    numbers = {sku: number for number, sku in enumerate(sorted(nouns), 1)}
    annotations = [
        {
            "image_id": image,
            "category_id": numbers[product.sku],
            "bbox": (box := _x_y_width_height(product.box)),
            "area": box[2] * box[3],
            "iscrowd": 0,
            "segmentation": [],
            "source": product.box_source,
        }
        for image, product in products
        if product.box is not None
    ]
    sources = [product.box_source for _, product in products]
    told = (
        f"Boxes of photos that were placed in the picture: {sources.count('placed')}. Boxes that "
        f"are the plan's regions, in which a drawn product was to stand: "
        f"{sources.count('planned')}. Products without a box: {sources.count('')}."
    )
    return {
        "info": {"description": f"Generated product pictures. {told}", "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": [{"id": n, **entry} for n, entry in enumerate(annotations, 1)],
        "categories": [
            {"id": number, "name": sku, "supercategory": nouns[sku]}
            for sku, number in numbers.items()
        ],
    }


def _product_record(row: ArchiveRow, product: ProductInPicture) -> dict[str, Any]:
    return {
        "sku": product.sku,
        "name": product.name,
        "class_noun": product.class_noun,
        "bbox": _x_y_width_height(product.box) if product.box else None,
        "bbox_source": product.box_source,
        "photo_sha256": row.photos.get(product.sku, ""),
        "concept_sha256": row.concepts.get(product.sku, ""),
        **sources_of(row)[product.sku]._asdict(),
    }


def _add_example(tar: tarfile.TarFile, example: Example, png: bytes) -> None:
    parts = {
        "json": _json(record_of(example)).encode(),
        "png": png,
        "txt": example.row.prompt.encode(),
    }
    for ending, data in parts.items():
        entry = tarfile.TarInfo(f"{example.stem}.{ending}")
        entry.size, entry.mtime, entry.mode = len(data), 0, 0o644
        tar.addfile(entry, io.BytesIO(data))


def _x_y_width_height(box: Box) -> list[int]:
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]


def _json(content: Mapping[str, Any]) -> str:
    """Strict JSON in one line; a score that is no number is null."""
    return json.dumps(_finite(content), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _hashed(name: str) -> str:
    return sha256_hex(name.encode())
