"""A catalog as records: one a product, with the latents of all of its views."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.pool import SizedViews
from catalog_pipeline.records import Pixels

PROMPT = "a product shot of a "


@dataclass(frozen=True)
class Records:
    """Products in a random order; ``views`` holds ``per_record`` of each, one record's together."""

    nouns: tuple[str, ...]
    pictures: tuple[Pixels, ...]
    views: SizedViews
    per_record: int

    def __len__(self) -> int:
        return len(self.nouns)

    def rows(self, record: int) -> range:
        """The views of a record."""
        return range(record * self.per_record, (record + 1) * self.per_record)


def load_records(
    data: Path, engine: DiffusionEngine, count: int, per_record: int, seed: int
) -> Records:
    """``count`` household products, drawn at random: the whole product is the record.

    So what is promised is promised for all photos of a product together.
    """
    folder = data / "household_catalog"
    catalog = sorted(json.loads((folder / "catalog.json").read_text("utf-8")), key=_number)
    if count > len(catalog):
        raise SystemExit(f"{folder} has {len(catalog)} products; expected at least {count}")
    order = np.random.default_rng(seed).permutation(len(catalog))[:count]
    side = engine.base.sample_size_px
    nouns, pictures = [], []
    for product in (catalog[int(index)] for index in order):
        letters = (c if c.isalpha() else " " for c in str(product["name"]).lower())
        nouns.append(" ".join("".join(letters).split()))
        pictures += [_on_white(folder / "views" / v, side) for v in product["views"][:per_record]]
    return as_records(engine, nouns, pictures, per_record)


def as_records(
    engine: DiffusionEngine, nouns: list[str], pictures: list[Pixels], per_record: int
) -> Records:
    """Records of ``pictures``, ``per_record`` of each noun."""
    latents = engine.encode_images(pictures)
    ones = torch.ones(len(latents), 1, *latents.shape[2:], device=latents.device)
    prompts = tuple(PROMPT + noun for noun in nouns for _ in range(per_record))
    views = SizedViews(
        latents=latents,
        weights=ones,
        regions=ones,
        instance_prompts=prompts,
        backdrop_prompts=(None,) * len(prompts),
        whole=torch.arange(len(prompts)),
        split=torch.arange(0),
    )
    return Records(tuple(nouns), tuple(pictures), views, per_record)


def _number(product: dict[str, object]) -> int:
    return int(str(product["id"]))


def _on_white(path: Path, side: int) -> Pixels:
    with Image.open(path) as image:
        opaque = image.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)
    paper = Image.new("RGBA", opaque.size, "white")
    return np.asarray(Image.alpha_composite(paper, opaque).convert("RGB"))
