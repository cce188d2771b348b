"""One cell of a study: the line itself over a scratch home, update by update.

Everything of a cell lies in one folder, named by what it depends on: ``home/`` and ``products/``,
``updates/NNN.json`` once an update is learned and measured, ``pictures/``, and ``done.json`` last.
A killed cell goes on with the update that it was at, and that with the product that it was at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.settings import ArchiveSettings, ExecutionSettings, Settings
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.workflows.evaluate.study_deliveries import Update
from catalog_pipeline.workflows.evaluate.study_products import (
    Granularity,
    StudyProduct,
)
from catalog_pipeline.workflows.models import base_model_hash

COLLECTION = "study"
_NAME_CHARS = 12


@dataclass(frozen=True)
class Cell:
    """What to learn how: one choice of a study, with one seed.

    ``equal_steps``: a concept of n products gets n times the steps.
    """

    study: str
    choice: str
    slots: str
    seed: int
    granularity: Granularity
    updates: tuple[Update, ...]
    equal_steps: bool = False

    @property
    def name(self) -> str:
        """For people and folders: ``family-per_concept-0``."""
        choice = self.choice.replace(", ", "-").replace(" ", "-")
        return f"{choice}-{self.slots}-{self.seed}"


def cell_settings(base: Settings, cell: Cell, folder: Path, images: int, photos: int) -> Settings:
    """The settings of ``base`` for a home in ``folder``.

    The gates stand open and measure nothing, since the study measures itself and a refused concept
    would have no figures; nothing is curated away, since another product of a family looks like a
    wrong photo; the products' photos, ``photos`` of them, may all be one concept's.
    """
    catalog = base.catalog.model_copy(
        update={
            "root": folder / "products",
            "s3": None,
            "settle_seconds": 0.0,
            "max_photos": max(photos, base.catalog.max_photos),
            "curation": base.catalog.curation.model_copy(update={"enabled": False}),
            "retire_fraction_limit": 1.0,
        }
    )
    learning = base.learning.model_copy(
        update={
            "seed": cell.seed,
            "adapter": base.learning.adapter.model_copy(update={"slots": cell.slots}),
            "gate_images": 1,
            "gate_min_fidelity_share": -1.0,
            "gate_max_color_shift": 1e6,
            "gate_max_forgetting": 1e6,
            "gate_retention_concepts": 0,
            "gate_max_prior_drift": 1e6,
            "gate_prior_images": 0,
            "gate_second_try_factor": 0.0,
        }
    )
    return base.model_copy(
        update={
            "home": folder / "home",
            "catalog": catalog,
            "learning": learning,
            "generation": base.generation.model_copy(update={"batch_size": images}),
            "archive": ArchiveSettings(),
            "execution": ExecutionSettings(),
        }
    )


class CellFiles:
    """The files of a cell under the folder of a study, each replaced whole."""

    def __init__(self, out: Path, name: str) -> None:
        self.folder = out / "cells" / name
        self._objects = LocalObjectStore(self.folder)

    def read(self, key: str) -> Any:
        """The content of a JSON file; ``None`` for no file.

        Raises:
            IntegrityError: it is no JSON.
        """
        if not self._objects.exists(key):
            return None
        try:
            return json.loads(self._objects.read(key).data)
        except ValueError as error:
            raise IntegrityError(
                f"{self._objects.uri(key)} is no JSON ({error}); delete it and run the study again"
            ) from error

    def write(self, key: str, content: Any) -> None:
        """Write a JSON file."""
        self._objects.put(key, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")

    def write_picture(self, sku: str, png: bytes) -> None:
        """Keep the first picture of a product."""
        self._objects.put(f"pictures/{sku}.png", png)

    def picture(self, sku: str) -> bytes | None:
        """The PNG of :meth:`write_picture`; ``None`` for none."""
        key = f"pictures/{sku}.png"
        return self._objects.read(key).data if self._objects.exists(key) else None


def cell_files(
    out: Path, settings: Settings, cell: Cell, products: Sequence[StudyProduct], images: int
) -> CellFiles:
    """The folder of ``cell``: another catalog, other settings or another base, another folder."""
    asked = {
        "cell": asdict(cell),
        "products": [
            [p.sku, p.card.class_noun, p.card.name, [photo.sha256 for photo in p.photos]]
            for p in products
        ],
        "learning": settings.learning.model_dump(mode="json"),
        "generation": settings.generation.model_dump(mode="json"),
        "encoder": settings.evaluation.encoder,
        "base": base_model_hash(settings.base_model),
        "quantise": settings.base_model.quantise,
        "images": images,
    }
    return CellFiles(out, f"{cell.study}-{cell.name}-{canonical_sha256(asked)[:_NAME_CHARS]}")
