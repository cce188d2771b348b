"""A painter in the sampler's place, an encoder that sees its colours, and a home for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.palettes import palette_of
from catalog_pipeline.records import (
    AdapterVersion,
    Concept,
    Cutout,
    Features,
    Palette,
    Pixels,
    Region,
    RenderJob,
    RenderReport,
    sources_of,
)
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.memory import MemoryEntry, encode_memory
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.night.picture_scores import crop_region
from catalog_pipeline.workflows.night.render_night import render_night
from catalog_pipeline.workflows.progress import ProgressSink
from tests.builders import make_adapter_version, make_concept, promote

DAY = date(2025, 3, 14)
SIDE = 32
NIGHT = {
    "scenes": [{"name": name, "text": f"on {name}"} for name in ("wood", "grass", "sand")],
    "policies": {"singles_per_sku": 2, "pairs": 3, "triples": 1},
    "steps": 4,
    "width": SIDE,
    "height": SIDE,
    "batch_size": 2,
    "mode": "learned",
}


def colour_of(sku: str) -> Pixels:
    return np.random.default_rng(list(sku.encode())).integers(40, 216, 3, dtype=np.uint8)


class PowerCutError(BaseException):
    """The process is gone: nothing in the program may catch this."""


@dataclass
class Painter:
    """Paints each product as a field of its own colour, grained by the job's seed."""

    drawers: Mapping[str, AdapterVersion]
    batches: list[list[str]] = field(default_factory=list)
    power_cut_at: int | None = None
    refuses: frozenset[str] = frozenset()
    largest_batch: int = 99
    power_cut_at_strength: float = 99.0
    refuses_at_strength: float = 99.0
    forgets: Mapping[str, int] = field(default_factory=dict)
    strengths: list[float] = field(default_factory=list)

    def render(
        self,
        jobs: Sequence[RenderJob],
        concepts: Mapping[str, Concept],
        *,
        strength: float = 1.0,
        cutouts: Mapping[str, Cutout] = MappingProxyType({}),
    ) -> list[Pixels]:
        if len(self.batches) == self.power_cut_at or strength >= self.power_cut_at_strength:
            raise PowerCutError
        if len(jobs) > self.largest_batch:
            raise MemoryError(f"{len(jobs)} pictures do not fit")
        shapes = {(j.width, j.height, j.steps, j.guidance, len(j.regions)) for j in jobs}
        assert len(shapes) == 1
        for job in jobs:
            for sku, source in sources_of(job).items():
                drawer = self.drawers[sku]
                assert source == (drawer.collection, drawer.version)
        if any(job.job_id in self.refuses for job in jobs) or strength >= self.refuses_at_strength:
            raise RuntimeError("a NaN in the latents")
        self.batches.append([job.job_id for job in jobs])
        self.strengths.append(strength)
        return [self._paint(job, concepts) for job in jobs]

    def _paint(self, job: RenderJob, concepts: Mapping[str, Concept]) -> Pixels:
        picture = np.empty((job.height, job.width, 3), np.uint8)
        for sku, region in zip(job.skus, job.regions, strict=True):
            assert concepts[sku].sku == sku
            columns = slice(round(region.left * job.width), round(region.right * job.width))
            picture[:, columns] = colour_of(sku)
            if self._forgets(job, sku):
                picture[:, columns] = 255 - colour_of(sku)
        grain = np.random.default_rng(job.seed).integers(0, 30, picture.shape, dtype=np.uint8)
        return picture + grain

    def _forgets(self, job: RenderJob, sku: str) -> bool:
        """Whether ``sku`` is missing: in the first so many attempts at each of its pairs."""
        made = sum(job.job_id in batch for batch in self.batches)  # this attempt included
        return len(job.skus) > 1 and made <= self.forgets.get(sku, 0)


class ColourEncoder:
    """The mean colour of a picture, centred and L2-normalised: ``(images, 3)``."""

    name = "colour"
    width = 3

    def encode(self, images: Sequence[Pixels]) -> Features:
        means = np.stack([image.reshape(-1, 3).mean(axis=0) - 128.0 for image in images])
        features = means / np.linalg.norm(means, axis=1, keepdims=True)
        return np.asarray(features, dtype=np.float32)


@dataclass(frozen=True)
class ColourVerdict:
    """Which of the named products have their colour in their region."""

    found: Mapping[str, bool]

    @property
    def passed(self) -> bool:
        return all(self.found.values())

    def to_scores(self) -> dict[str, float]:
        share = sum(self.found.values()) / len(self.found)
        return {"reflection": share, **{f"found/{sku}": float(f) for sku, f in self.found.items()}}


@dataclass
class ColourJudge:
    """Finds a product where no bank is clearly nearer to its region than its own."""

    banks: Mapping[str, Features]
    classes: Mapping[str, str]
    encoder: FeatureEncoder
    palettes: Mapping[str, Palette] = field(default_factory=dict)

    def judge(
        self, pictures: Sequence[Pixels], named: Sequence[Sequence[tuple[str, Region]]]
    ) -> list[ColourVerdict]:
        return [
            ColourVerdict({sku: self._finds(sku, crop_region(picture, r)) for sku, r in regions})
            for picture, regions in zip(pictures, named, strict=True)
        ]

    def _finds(self, sku: str, crop: Pixels) -> bool:
        (feature,) = self.encoder.encode([crop])
        likeness = {name: float((bank @ feature).mean()) for name, bank in self.banks.items()}
        return likeness[sku] > 0.5 and likeness[sku] > max(likeness.values()) - 0.1


@dataclass
class Studio:
    """A home with settings, and every painter that a rendering run opened in it."""

    settings: Settings
    painters: list[Painter] = field(default_factory=list)

    @property
    def home(self) -> Home:
        return open_home(self.settings)

    def configured(self, **generation: Any) -> Studio:
        merged = {**NIGHT, **generation}
        update = {"generation": type(self.settings.generation).model_validate(merged)}
        return Studio(self.settings.model_copy(update=update))

    def learn(self, *skus: str, collection: str = "default", edition: str = "") -> AdapterVersion:
        """Learn ``skus`` one task further on the collection's head."""
        store = open_home(self.settings).adapters(collection)
        head = store.current()
        known = {c.sku: c for c in head.concepts} if head else {}
        parts = dict(head.parts) if head else {}
        for sku in skus:
            photo = np.full((4, 4, 3), colour_of(sku), np.uint8)
            features = ColourEncoder().encode([photo])
            memory = encode_memory(MemoryEntry(sku, ("a photo",), features, palette_of(photo)))
            parts[f"memory/{sku}"] = store.write_part(memory, sku)
            parts[f"concept/{sku}"] = store.write_part(f"weights {sku} {edition}".encode(), sku)
            task = 1 + max((c.task for c in known.values()), default=-1)
            token = (f"<{sku}:0>",)
            known[sku] = make_concept(sku, task, placeholder_tokens=token, photos_hash=edition)
        parent = head.version if head else None
        fields = {"collection": collection, "parent": parent, "parts": parts}
        version = make_adapter_version(*known.values(), **fields)
        promote(store, version)
        return version

    def render(
        self,
        day: date = DAY,
        *,
        retry_quarantined: bool = False,
        progress: ProgressSink | None = None,
        **painter: Any,
    ) -> RenderReport:
        def open_sampler(home: Home, drawers: Mapping[str, AdapterVersion]) -> Painter:
            self.painters.append(Painter(drawers, **painter))
            return self.painters[-1]

        return render_night(
            self.home,
            day,
            retry_quarantined=retry_quarantined,
            progress=progress,
            open_sampler=open_sampler,
            encoder=ColourEncoder(),
            open_judge=ColourJudge,
        )

    def painted(self) -> list[str]:
        """Every job painted since this was last asked, and forgets the painters."""
        jobs = [job for painter in self.painters for batch in painter.batches for job in batch]
        self.painters.clear()
        return jobs

    def files(self) -> dict[str, bytes]:
        root = self.settings.home
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        return {str(p.relative_to(root)): p.read_bytes() for p in paths}

    def manifest(self) -> pd.DataFrame:
        return pd.read_parquet(self.settings.home / f"manifest/dt={DAY.isoformat()}/part-0.parquet")
