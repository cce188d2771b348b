"""Stands in for the model alone: everything stored, locked, indexed and published is real.

Training and sampling take minutes and are tested in their own rooms. What is tested
beside this module is how the line is scheduled, recorded and repaired.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from catalog_pipeline.catalog.index import mark_failed, mark_learned
from catalog_pipeline.errors import CatalogError, QualityGateError
from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png
from catalog_pipeline.records import (
    AdapterVersion,
    Concept,
    LearnOutcome,
    PhotoSet,
    Pixels,
    RenderJob,
)
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import version_hash
from catalog_pipeline.workflows import models
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn import learn_concepts as learning
from catalog_pipeline.workflows.progress import ProgressSink

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
) -> Iterator[LearnOutcome]:
    """Commits a version per SKU; those named in ``<home>/refused_skus.txt`` fail the gate.

    ``<home>/figures.json`` maps a SKU to what the gate measures of it.
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
            yield learning.failed_outcome(row.sku, error)
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
        concept = Concept(
            sku=sku,
            name=photos.sku.name,
            class_noun=photos.sku.class_noun,
            category=photos.sku.category,
            placeholder_tokens=(f"<{sku}:0>", f"<{sku}:1>"),
            photos_hash=photos.content_hash,
            task=len(parent.concepts) if parent else 0,
            metrics=figures,
        )
        part = store.write_part(f"weights of {sku} at {photos.content_hash}".encode())
        kept = tuple(c for c in parent.concepts if c.sku != sku) if parent else ()
        draft = AdapterVersion(
            version="",
            collection=store.collection,
            parent=parent.version if parent else None,
            concepts=(*kept, concept),
            base_model_hash="base",
            config_hash="config",
            parts={**(parent.parts if parent else {}), f"concept/{sku}": part},
            memory_version=part[:16],
            code_version="test",
            seed=0,
            created_utc=datetime.now(UTC),
            metrics={"mean_fidelity": 0.5},
        )
        version = replace(draft, version=version_hash(draft))
        store.publish(version)
        store.promote(version.version, expected=draft.parent, fence=lease.fence)
    return LearnOutcome(
        sku,
        "learned",
        version=version.version,
        seconds=1.5,
        metrics=figures,
        loss_curve=tuple((step, 1.0 / (step + 1)) for step in range(40)),
        contact_sheet_png=_sheet(photos),
    )


class FlatSampler:
    """Draws one plain colour per job; raises while ``<home>/broken_sampler`` exists."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def render(
        self, jobs: Sequence[RenderJob], concepts: Mapping[str, Concept], *, strength: float = 1.0
    ) -> list[Pixels]:
        """One flat picture for each job, its colour from the job's id."""
        if (self._settings.home / BROKEN_SAMPLER_FILE).exists():
            raise RuntimeError("the graphics card fell off")
        return [self._draw(job) for job in jobs]

    def _draw(self, job: RenderJob) -> Pixels:
        colour = np.frombuffer(hashlib.sha256(job.job_id.encode()).digest()[:3], np.uint8)
        picture = np.empty((job.height, job.width, 3), np.uint8)
        picture[:] = colour
        picture[0, 0] = zlib.crc32(job.job_id.encode()) % 256
        return picture


def open_sampler(
    home: Home, collection: str, version: str | None = None
) -> tuple[FlatSampler, AdapterVersion]:
    """A sampler that needs no weights, and the version it claims to render."""
    store = home.adapters(collection)
    found = store.current() if version is None else store.read(version)
    assert found is not None
    return FlatSampler(home.settings), found
