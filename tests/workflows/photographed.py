"""Drawn products in cut-out photos, known to a tiny real model: no mask is estimated here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.catalog import local
from catalog_pipeline.evaluation.palettes import palette_of
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.memory import MemoryEntry, encode_memory
from catalog_pipeline.workflows.home import open_home
from tests.builders import make_adapter_version, make_concept, promote
from tests.evaluation.drawn import BACKGROUNDS, photo_of
from tests.workflows.painted_night import ColourEncoder

SIDE = 192
PRODUCTS = ("ball", "crate")
TOO_SMALL = "tent"
"""A product whose photos are too small to stand in scenes."""

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


def know(settings: Settings, skus: Sequence[str]) -> None:
    """Promote a version in which every SKU has a slot and a token of random contents."""
    # Imported here: diffusers costs seconds, and most tests that share this file open no model.
    import torch

    from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
    from catalog_pipeline.diffusion.text import placeholder_tokens
    from tests.tiny_model import fill_slot, open_tiny_engine

    engine = open_tiny_engine(Path(settings.base_model.base_model))
    store = open_home(settings).adapters("default")
    concepts, parts = [], {}
    for task, sku in enumerate(skus):
        generator = fill_slot(engine, sku, task)
        tokens = placeholder_tokens(sku, 1)
        engine.text.table.add(tokens[0], torch.randn(16, generator=generator))
        weights = encode_part(slot_part(engine, sku) | token_part(engine, list(tokens)))
        parts[f"concept/{sku}"] = store.write_part(weights)
        photo = photo_of(sku, 0, SIDE)
        memory = MemoryEntry(sku, ("a photo",), ColourEncoder().encode([photo]), palette_of(photo))
        parts[f"memory/{sku}"] = store.write_part(encode_memory(memory))
        concepts.append(make_concept(sku, task, class_noun="toy", placeholder_tokens=tokens))
    base = engine.base.content_hash
    promote(store, make_adapter_version(*concepts, parts=parts, base_model_hash=base))


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
    """Everything under the home but the store's locks, by its path there."""
    paths = [path for path in settings.home.rglob("*") if path.is_file()]
    names = {path: str(path.relative_to(settings.home)) for path in sorted(paths)}
    return {name: p.read_bytes() for p, name in names.items() if not name.startswith(".locks/")}
