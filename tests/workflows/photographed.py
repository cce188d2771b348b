"""Drawn products in cut-out photos, and who opens these: nights that need no mask network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.catalog import local
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.archive import ImageArchive
from tests.evaluation.drawn import BACKGROUNDS, photo_of

SIDE = 192
PRODUCTS = ("ball", "crate")
EXACT: dict[str, Any] = {
    "mode": "exact",
    "scenes": [{"name": "wood", "text": "on wood"}],
    "policies": {"singles_per_sku": 1, "pairs": 1},
    "anchoring": {"output_scale": 1, "backdrop_steps": 1},
}
"""Generation settings of three pictures: each of :data:`PRODUCTS`, and both."""


def cut_out(product: str, index: int = 0, side: int = SIDE) -> Image.Image:
    """A drawn product with the exact opacity of its outline."""
    photo = photo_of(product, index, side)
    ground = np.array(Image.new("RGB", (1, 1), BACKGROUNDS[index % len(BACKGROUNDS)]))[0, 0]
    opacity = np.where((photo != ground).any(-1), 255, 0).astype(np.uint8)
    return Image.fromarray(np.dstack([photo, opacity]))


def photograph(settings: Settings, sku: str, count: int = 2, side: int = SIDE) -> Path:
    """The folder of a SKU that is named after a drawn product, with ``count`` cut-outs of it."""
    folder = settings.catalog_root / sku
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        cut_out(sku, index, side).save(folder / f"{index}.png")
    (folder / "sku.yaml").write_text("class_noun: toy\n", encoding="utf-8")
    return folder


@contextmanager
def photos_opened() -> Iterator[list[str]]:
    """The names of the photos that are opened meanwhile, to be hashed or to be decoded."""
    opened: list[str] = []
    true_open = local._open_regular

    def noted(path: Path) -> Any:
        if path.suffix == ".png":
            opened.append(f"{path.parent.name}/{path.name}")
        return true_open(path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local, "_open_regular", noted)
        yield opened


@contextmanager
def rows_staged() -> Iterator[dict[str, ArchiveRow]]:
    """The rows that are staged meanwhile, by job, as they were given to the archive."""
    rows: dict[str, ArchiveRow] = {}
    true_stage = ImageArchive.stage

    def noted(archive: ImageArchive, day: Any, shard: str, made: list[ArchiveRow]) -> Any:
        rows.update({row.image_id: row for row in made})
        return true_stage(archive, day, shard, made)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ImageArchive, "stage", noted)
        yield rows


def files_of(settings: Settings) -> dict[str, bytes]:
    """Everything under the home, by its path there."""
    paths = sorted(path for path in settings.home.rglob("*") if path.is_file())
    return {str(path.relative_to(settings.home)): path.read_bytes() for path in paths}
