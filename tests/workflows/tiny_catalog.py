"""A catalog of painted products, learned by a tiny real diffusion model in a second each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catalog_pipeline.records import LearnOutcome, SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts

LEARNING: dict[str, Any] = {
    "steps": 6,
    "checkpoint_every": 2,
    "batch_size": 2,
    "latent_views": 5,
    "scenes": ["in the snow"],
    "backdrops_per_scene": 1,
    "prior_images": 2,
    "replay_candidates": 2,
    "replay_exemplars": 1,
    "gate_images": 2,
    "gate_min_fidelity_share": -1.0,
    "gate_max_color_shift": 999.0,
    "gate_max_forgetting": 9.0,
    "gate_max_prior_drift": 9.0,
    "gate_prior_images": 2,
    "adapter": {"rank": 2},
}
"""Gates stand open; a test closes the one that it is about."""

GENERATION = {"steps": 2, "width": 16, "height": 16, "quality": {"gate": False}}


def tiny_sections(model: Path, **learning: Any) -> dict[str, Any]:
    """Sections of settings over the tiny model in ``model``."""
    return {
        "catalog": {"settle_seconds": 0},
        "base_model": {"base_model": str(model), "dtype": "float32", "threads": 1},
        "learning": LEARNING | learning,
        "generation": GENERATION,
    }


def tiny_settings(make_settings: Callable[..., Settings], model: Path, **learning: Any) -> Settings:
    """Settings over a scratch home and the tiny model in ``model``."""
    return make_settings(**tiny_sections(model, **learning))


def with_learning(settings: Settings, **changes: Any) -> Settings:
    """``settings`` with other learning settings over the same home."""
    learning = settings.learning.model_copy(update=changes)
    return settings.model_copy(update={"learning": learning})


def elsewhere(settings: Settings, home: Path) -> Settings:
    """The same products and settings, with another home."""
    catalog = settings.catalog.model_copy(update={"root": settings.catalog_root})
    return settings.model_copy(update={"home": home, "catalog": catalog})


def write_photos(
    settings: Settings,
    sku: str,
    seed: int = 0,
    count: int = 3,
    colour: tuple[int, int, int] | None = None,
) -> None:
    """Photos of a box, all of one ``colour`` or each of its own."""
    write_photos_in(settings.catalog_root / sku, seed, count, colour)


def write_photos_in(
    folder: Path,
    seed: int = 0,
    count: int = 3,
    colour: tuple[int, int, int] | None = None,
) -> None:
    """As :func:`write_photos`, in the folder of a product."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = np.full((80, 96, 3), 230, np.uint8)
        pixels[20:60, 30:70] = colour or rng.integers(0, 255, 3)
        Image.fromarray(pixels).rotate(index).save(folder / f"{index}.png")
    (folder / "sku.yaml").write_text("class_noun: mug\n")


def statuses(settings: Settings) -> dict[str, SkuStatus]:
    return {row.sku: row.status for row in open_home(settings).index.read()}


def learn_all(settings: Settings, skus: Sequence[str] | None = None) -> dict[str, LearnOutcome]:
    refresh_index(open_home(settings))
    return {outcome.sku: outcome for outcome in learn_concepts(open_home(settings), skus)}
