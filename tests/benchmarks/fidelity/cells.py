"""The scenes of a home: painted, measured and kept, one file a scene."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catalog_pipeline.catalog.decoding import decode_photo
from catalog_pipeline.evaluation.contact_sheet import encode_png
from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.matting import cut_out_product
from catalog_pipeline.evaluation.product_crops import alone_on_white
from catalog_pipeline.evaluation.reflection.score import ReflectionJudge
from catalog_pipeline.evaluation.text_reading import open_text_reader
from catalog_pipeline.generation.draws import Slot
from catalog_pipeline.records import Features, Photo, memory_part
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.models import (
    drawn_by,
    open_sampler,
    product_masker,
    served_version,
)
from catalog_pipeline.workflows.night.anchor_cutouts import CutoutBook
from catalog_pipeline.workflows.night.crop_scores import CropScorer
from catalog_pipeline.workflows.night.product_photos import PhotoBook
from tests.benchmarks.fidelity.labels import labelled_products
from tests.benchmarks.fidelity.measure import Measures
from tests.benchmarks.fidelity.paint import VARIANTS, BareSampler, Painter
from tests.benchmarks.fidelity.scenes import (
    COUNTS,
    LAYOUT_NAMES,
    SEEDS,
    Scene,
    draw_scenes,
    make_job,
)
from tests.benchmarks.harness.cells import json_bytes, read_json

SPEED_MODES = ("learned", "anchored", "exact")
SPEED_JOBS = 8

log = logging.getLogger("bench")


class Bench:
    """A learned home, opened once, and where results go."""

    def __init__(self, home: Path, settings: Settings) -> None:
        self._out = home
        self._home = open_home(settings)
        self._settings = settings
        self._version = served_version(self._home, "default")
        self._sampler = open_sampler(self._home, drawn_by(self._version))
        self._concepts = {concept.sku: concept for concept in self._version.concepts}
        bare = BareSampler(
            self._sampler._engine,
            settings.learning.adapter,
            self._sampler._read_part,
            settings.generation.batch_size,
        )
        self._painter = Painter(self._sampler, bare)
        contents = {row.sku: row.content_hash for row in self._home.index.read()}
        book = PhotoBook(self._home, contents)
        self._photos = {sku: book.find(sku) for sku in self._concepts}
        self._cutouts = CutoutBook(self._home)

    def run_suite(self, suite: str, count: int | None) -> None:
        """Paint and measure what is not there yet."""
        for seed in SEEDS:
            scenes = self._scenes(suite, count or COUNTS[suite], seed)
            for start in range(0, len(scenes), 4):
                missing = [s for s in scenes[start : start + 4] if not self._file(s).exists()]
                if missing:
                    self._paint(missing, VARIANTS)
                    log.info("%s seed %d: %d of %d", suite, seed, start + 4, len(scenes))
        without = {sku: p.reason for sku, p in self._photos.items() if not p.photos}
        (self._out / "without.json").write_bytes(json_bytes(without))

    def measure_speed(self, rounds: int) -> None:
        """Seconds a picture of each mode, the modes in turn, batches full, two threads.

        ``cut`` is the seconds a photo that is cut out, once a night and photo.
        """
        torch.set_num_threads(2)
        seconds: dict[str, list[float]] = {"cut": []}
        for suite in ("singles", "pairs"):
            scenes = self._scenes(suite, SPEED_JOBS, 0)
            jobs = [scene.job for scene in scenes]
            cutouts = self._cutouts.of(jobs)
            started = time.monotonic()
            CutoutBook(self._home).of(jobs)
            seconds["cut"].append((time.monotonic() - started) / len(cutouts))
            for turn in range(rounds + 1):  # the first one warms up
                for mode in SPEED_MODES:
                    asked = [replace(job, mode=mode) for job in jobs]
                    started = time.monotonic()
                    self._sampler.render(asked, self._concepts, cutouts=cutouts)
                    took = (time.monotonic() - started) / len(jobs)
                    if turn:
                        seconds.setdefault(f"{suite} {mode}", []).append(took)
        (self._out / "speed.json").write_bytes(json_bytes(seconds))

    def measure_labels(self, data: Path) -> None:
        """Of products with a readable label, learned or not: what an exact picture says."""
        reader = open_text_reader()
        assert reader is not None
        settings = self._settings.generation
        rows = []
        for turn, product in enumerate(labelled_products(data, reader, self._settings.catalog)):
            scene = settings.scenes[turn % len(settings.scenes)]
            slot = Slot((product.concept.sku,), scene, LAYOUT_NAMES[1], turn, "singles")
            concepts = {product.concept.sku: product.concept}
            photos = {product.concept.sku: product.photos}
            job = make_job(slot, concepts, photos, settings, f"label|{turn}")
            cutouts = {product.photos.photos[0].sha256: product.cutout}
            (picture,) = self._painter.bare.render([job], concepts, cutouts=cutouts)
            scores = self._measures.scorer.score(job, picture, cutouts)
            error = scores.get(f"text_error/{product.concept.sku}")
            if error is not None:
                rows.append({"sku": product.concept.sku, "scene": scene.name, "error": error})
                log.info("%s on %s: %.3f", product.concept.sku, scene.name, error)
                (self._out / "labels.json").write_bytes(json_bytes(rows))

    def _scenes(self, suite: str, count: int, seed: int) -> list[Scene]:
        generation = self._settings.generation
        return draw_scenes(suite, count, seed, self._concepts, self._photos, generation)

    def repaint(self, suite: str, variants: Sequence[str]) -> None:
        """Paint and measure some variants anew, where the others are there."""
        for seed in SEEDS:
            scenes = [s for s in self._scenes(suite, COUNTS[suite], seed) if self._file(s).exists()]
            for start in range(0, len(scenes), 4):
                self._paint(scenes[start : start + 4], variants)
                log.info("%s seed %d: %d of %d anew", suite, seed, start + 4, len(scenes))

    def _paint(self, scenes: Sequence[Scene], variants: Sequence[str]) -> None:
        jobs = [scene.job for scene in scenes]
        cutouts = self._cutouts.of(jobs)
        painted = self._painter.paint(jobs, self._concepts, cutouts, variants)
        for scene, row in zip(scenes, painted, strict=True):
            folder = self._out / "pictures" / scene.name
            folder.mkdir(parents=True, exist_ok=True)
            for name, picture in row.items():
                (folder / f"{name}.png").write_bytes(encode_png(picture))
            known = read_json(self._file(scene)) or {"variants": {}}
            figures: dict[str, Any] = {
                "suite": scene.suite,
                "seed": scene.seed,
                "skus": list(scene.job.skus),
                "variants": {
                    **known["variants"],
                    **self._measures.of_scene(scene.job, row, cutouts),
                },
                "ceilings": {sku: self._ceiling(sku) for sku in scene.job.skus},
            }
            self._file(scene).parent.mkdir(parents=True, exist_ok=True)
            self._file(scene).write_bytes(json_bytes(figures))

    def _file(self, scene: Scene) -> Path:
        return self._out / "scenes" / f"{scene.name}.json"

    @cached_property
    def _measures(self) -> Measures:
        encoder = self._encoder
        if open_text_reader() is None:
            raise SystemExit("text cannot be read: install the extra 'text' (make setup does)")
        store = self._home.adapters("default")
        memories = {
            sku: decode_memory(store.read_part(self._version.parts[memory_part(sku)]))
            for sku in self._concepts
        }
        judge = ReflectionJudge(
            {sku: memory.features for sku, memory in memories.items()},
            {sku: concept.class_noun for sku, concept in self._concepts.items()},
            encoder,
            product_masker(),
            palettes={s: m.palette for s, m in memories.items() if m.palette is not None},
        )
        crops = {sku: self._crops(sku) for sku in self._concepts}
        return Measures(
            encoder,
            product_masker(),
            judge,
            CropScorer(lambda: encoder),
            crops,
        )

    def _crops(self, sku: str) -> dict[str, Features]:
        """SHA-256 of each usable photo -> features of its product alone on white."""
        rows = {}
        for judged in self._photos[sku].photos:
            data = self._home.photo_source.read(judged.key)
            decoded = decode_photo(data, self._settings.catalog)
            photo = Photo(judged.key, judged.sha256, decoded.pixels, decoded.mask)
            rgba = cut_out_product(photo, product_masker()).rgba
            crop = alone_on_white(rgba[..., :3], rgba[..., 3] >= 128)
            rows[judged.sha256] = self._encoder.encode([crop])[0]
        return rows

    @cached_property
    def _encoder(self) -> Any:
        return open_encoder()

    def _ceiling(self, sku: str) -> float | None:
        """Mean cosine of different photos' crops: what a further photo would reach."""
        rows = list(self._measures.crops[sku].values())
        if len(rows) < 2:
            return None
        table = np.stack(rows) @ np.stack(rows).T
        return float(table[~np.eye(len(rows), dtype=bool)].mean())


def read_scenes(home: Path) -> list[dict[str, Any]]:
    """Every measured scene of a home."""
    return [read_json(path) for path in sorted((home / "scenes").glob("*.json"))]
