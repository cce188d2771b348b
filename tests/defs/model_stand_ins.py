"""Stands in for the model alone: everything stored, locked, indexed and published is real.

Training and sampling take minutes and are tested in their own rooms. What is tested
beside this module is how the line is scheduled, recorded and repaired.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from catalog_pipeline.catalog.index import mark_failed, mark_learned
from catalog_pipeline.errors import CatalogError, QualityGateError
from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png
from catalog_pipeline.records import (
    AdapterVersion,
    LearnOutcome,
    PhotoSet,
)
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows import models
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn import learn_concepts as learning
from catalog_pipeline.workflows.learn.learning_run import failed_outcome
from catalog_pipeline.workflows.progress import ProgressSink
from tests.builders import make_concept, next_version
from tests.workflows.painted_night import Painter

REFUSED_FILE = "refused_skus.txt"
FIGURES_FILE = "figures.json"
BROKEN_SAMPLER_FILE = "broken_sampler"
DIES_AT_FILE = "dies_at.txt"


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put both stand-ins where the workflows look for the model."""
    monkeypatch.setattr(learning, "learn_concepts", learn_concepts)
    monkeypatch.setattr(models, "open_sampler", open_sampler)


def learn_concepts(
    home: Home,
    skus: Sequence[str] | None = None,
    *,
    progress: ProgressSink | None = None,
    on_photo_set: Callable[[PhotoSet], None] | None = None,
    force: bool = False,
) -> Iterator[LearnOutcome]:
    """Commits a version per SKU; those named in ``<home>/refused_skus.txt`` fail the gate.

    ``<home>/figures.json`` maps a SKU to what the gate measures of it. ``force`` changes nothing.
    """
    settings = home.settings
    for row in learning.choose_rows(home.index.read(), skus):
        if progress is not None:
            progress.start(f"learn {row.sku}", 40)
            progress.advance(f"learn {row.sku}", 40)
            progress.finish(f"learn {row.sku}")
        if row.sku in _names(settings, DIES_AT_FILE):
            os.remove(settings.home / DIES_AT_FILE)
            raise KeyboardInterrupt
        try:
            photos = validate_photo_set(home, row.sku)
            if on_photo_set is not None:
                on_photo_set(photos)
            if row.sku in _names(settings, REFUSED_FILE):
                raise QualityGateError(
                    f"{row.sku} looks like nothing at all",
                    picture_png=_sheet(photos),
                    figures=_figures(settings, row.sku),
                )
            outcome = _commit(home, photos)
        except (CatalogError, QualityGateError) as error:
            reason = str(error)
            home.index.update(
                lambda rows, row=row, reason=reason: mark_failed(
                    rows, row.sku, row.content_hash, reason
                )
            )
            yield failed_outcome(row.sku, error)
        else:
            home.index.update(
                lambda rows, row=row, photos=photos: mark_learned(
                    rows, row.sku, photos.content_hash
                )
            )
            yield outcome


def _names(settings: Settings, file: str) -> list[str]:
    path = settings.home / file
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def _figures(settings: Settings, sku: str) -> dict[str, float]:
    path = settings.home / FIGURES_FILE
    measured = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {"fidelity": 0.5, "forgetting": 0.01, "prior_drift": 0.02, **measured.get(sku, {})}


def _sheet(photos: PhotoSet) -> bytes:
    return encode_png(contact_sheet([[photo.pixels for photo in photos.photos]]))


def _commit(home: Home, photos: PhotoSet) -> LearnOutcome:
    sku = photos.sku.sku
    figures = _figures(home.settings, sku)
    store = home.adapters(photos.sku.collection)
    with store.lease(timeout_seconds=5) as lease:
        parent = store.current()
        known = parent.concept(sku) if parent else None
        if parent is not None and known is not None and known.photos_hash == photos.content_hash:
            return LearnOutcome(sku, "unchanged", version=parent.version)
        concept = make_concept(
            sku,
            len(parent.concepts) if parent else 0,
            name=photos.sku.name,
            class_noun=photos.sku.class_noun,
            category=photos.sku.category,
            photos_hash=photos.content_hash,
            metrics=figures,
        )
        part = store.write_part(f"weights of {sku} at {photos.content_hash}".encode())
        version = next_version(
            parent,
            concept,
            part,
            collection=store.collection,
            memory_version=part[:16],
            created_utc=datetime.now(UTC),
            metrics={"mean_fidelity": 0.5},
        )
        store.publish(version)
        store.promote(version.version, expected=version.parent, fence=lease.fence)
    return LearnOutcome(
        sku,
        "learned",
        version=version.version,
        seconds=1.5,
        metrics=figures,
        loss_curve=tuple((step, 1.0 / (step + 1)) for step in range(40)),
        contact_sheet_png=_sheet(photos),
    )


def open_sampler(home: Home, drawers: Mapping[str, AdapterVersion]) -> Painter:
    """A painter of the versions; it paints nothing while ``<home>/broken_sampler`` exists."""
    broken = (home.settings.home / BROKEN_SAMPLER_FILE).exists()
    return Painter(drawers, refuses_at_strength=0.0 if broken else 99.0)
