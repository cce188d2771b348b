"""Measure what collections retain: fixed prompts at fixed seeds, against the memory bank."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from catalog_pipeline.errors import GenerationError, ObjectNotFoundError
from catalog_pipeline.generation.planner import split_layout
from catalog_pipeline.records import AdapterVersion, Concept, Features, Pixels, RenderJob
from catalog_pipeline.settings import GenerationSettings, Settings
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.learn_concepts import ENCODER
from catalog_pipeline.workflows.models import open_sampler, read_named_part
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress
from catalog_pipeline.workflows.report_pages import photos_to_show, write_page

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder
    from catalog_pipeline.evaluation.scoring import CollectionScore, SkuScore

SECOND_ENCODER = "efficientnet_lite0"
_PHOTOS = 6
_KEPT_PX = 256
_NO_DAY = date(1970, 1, 1)


@dataclass(frozen=True)
class EvaluatedCollection:
    """One collection's figures and where its pages are."""

    score: CollectionScore
    html_path: Path
    json_path: Path


@dataclass(frozen=True)
class EvaluationReport:
    """What one evaluation found; at least one collection."""

    collections: tuple[EvaluatedCollection, ...]

    @property
    def html_path(self) -> Path:
        """The first collection's page."""
        return self.collections[0].html_path

    @property
    def per_sku(self) -> dict[str, SkuScore]:
        """Every product's figures by SKU."""
        return {score.sku: score for part in self.collections for score in part.score.skus}

    @property
    def final_fidelity(self) -> float:
        """Mean fidelity over all products."""
        scores = list(self.per_sku.values())
        return sum(score.fidelity for score in scores) / len(scores)


def evaluate(
    settings: Settings,
    collection: str | None = None,
    images_per_sku: int = 8,
    *,
    progress: ProgressSink | None = None,
) -> EvaluationReport:
    """Render every learned product at fixed prompts and seeds, and compare with its photos.

    Measured is the served version of ``collection``, or of every collection that
    has one. Writes ``reports/evaluation-<collection>-<version>.html`` and
    ``.json``; earlier JSON files of the version's ancestors tell how much was
    forgotten. Evaluating a version again replaces its files.

    Raises:
        GenerationError: nothing learned, or ``images_per_sku`` below 1.
        LearningError: the version belongs to another base model.
        ConfigurationError: the encoders' packages are missing.
    """
    if images_per_sku < 1:
        raise GenerationError(f"images_per_sku is {images_per_sku}; expected at least 1")
    home = open_home(settings)
    served = [name for name in home.collections() if home.adapters(name).head() is not None]
    if collection is None and not served:
        raise GenerationError("no collection has learned anything; run `catalog-pipeline learn`")
    run = _Evaluation(settings, home, images_per_sku, progress or SilentProgress())
    names = served if collection is None else [collection]
    return EvaluationReport(tuple(run.measure(name) for name in names))


@dataclass(frozen=True)
class _Evaluation:
    settings: Settings
    home: Home
    images_per_sku: int
    progress: ProgressSink

    def measure(self, collection: str) -> EvaluatedCollection:
        from catalog_pipeline.evaluation.report import EvaluationPage, render_report
        from catalog_pipeline.evaluation.scoring import CollectionScore

        sampler, version = open_sampler(self.settings, collection)
        memory = self._memory(version)
        rendered: dict[str, list[Pixels]] = {}
        label = f"evaluate {collection}"
        self.progress.start(label, len(version.concepts) * self.images_per_sku)
        concepts = {concept.sku: concept for concept in version.concepts}
        protocol = self._protocol()
        history = self._history(version, protocol)
        photos = photos_to_show(self.settings, list(concepts), _PHOTOS)
        scorer = _Scorer(memory, photos, history, version)
        scores = []
        for concept in version.concepts:
            jobs = self._jobs(concept, version)
            pictures = sampler.render(jobs, concepts)
            score = scorer.score(concept, pictures)
            scores.append(score)
            rendered[concept.sku] = [_reduced(picture) for picture in pictures]
            self.progress.advance(label, len(jobs), f"{concept.sku} {score.share:.0%}")
        self.progress.finish(label)
        total = CollectionScore(
            collection, version.version, protocol, self.images_per_sku, tuple(scores)
        )
        page = EvaluationPage(
            score=total,
            version=version,
            settings=self._described(version),
            prompts=[scene for scene, _ in self._scenes()],
            photos=photos,
            samples=rendered,
            history=[entry for entry, _ in history],
        )
        name = _report_name(collection, version.version)
        html_path = self._write(f"{name}.html", render_report(page))
        record = json.dumps(total.to_record(), indent=1, sort_keys=True, ensure_ascii=False)
        return EvaluatedCollection(total, html_path, self._write(f"{name}.json", record + "\n"))

    def _write(self, name: str, text: str) -> Path:
        return write_page(self.settings, self.home, name, text.encode())

    def _memory(self, version: AdapterVersion) -> dict[str, Features]:
        store = self.home.adapters(version.collection)
        return {
            concept.sku: decode_memory(
                read_named_part(store, version, f"memory/{concept.sku}")
            ).features
            for concept in version.concepts
        }

    def _history(
        self, version: AdapterVersion, protocol: str
    ) -> list[tuple[CollectionScore, AdapterVersion]]:
        """Comparable evaluations of the version's ancestors, oldest first."""
        from catalog_pipeline.evaluation.scoring import CollectionScore

        store = self.home.adapters(version.collection)
        found: list[tuple[CollectionScore, AdapterVersion]] = []
        parent = version.parent
        while parent is not None:
            try:
                ancestor = store.read(parent)
            except ObjectNotFoundError:
                break  # Versions may be cleaned up; what is left still compares.
            key = f"reports/{_report_name(version.collection, parent)}.json"
            if self.home.objects.exists(key):
                score = CollectionScore.from_record(json.loads(self.home.objects.read(key).data))
                if score.protocol == protocol:
                    found.append((score, ancestor))
            parent = ancestor.parent
        return found[::-1]

    def _scenes(self) -> list[tuple[str, int]]:
        from catalog_pipeline.evaluation.prompts import evaluation_scenes

        return evaluation_scenes(self.images_per_sku)

    def _jobs(self, concept: Concept, version: AdapterVersion) -> list[RenderJob]:
        generation = self.settings.generation
        return [
            RenderJob(
                job_id=f"evaluation-{concept.sku}-{seed}",
                day=_NO_DAY,
                template="evaluation",
                prompt=f"{concept.name} {scene}",
                scene=scene,
                skus=(concept.sku,),
                regions=split_layout(1),
                layout="single",
                seed=seed,
                sampler=generation.sampler,
                steps=generation.steps,
                guidance=generation.guidance,
                width=generation.width,
                height=generation.height,
                negative_prompt=generation.negative_prompt,
                collection=version.collection,
                adapter_version=version.version,
            )
            for scene, seed in self._scenes()
        ]

    def _protocol(self) -> str:
        """Equal for two evaluations whose figures may be compared."""
        content = {
            "encoder": ENCODER,
            "scenes": self._scenes(),
            "sampling": _sampling(self.settings.generation),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def _described(self, version: AdapterVersion) -> dict[str, str]:
        sampling = _sampling(self.settings.generation)
        return {
            "version": version.version,
            "parent": version.parent or "none",
            "base model": version.base_model_hash,
            "memory": version.memory_version,
            "code": version.code_version,
            "encoder": f"{ENCODER}; second: {SECOND_ENCODER}",
            "sampling": ", ".join(f"{key} {value}" for key, value in sampling.items() if value),
            "protocol": self._protocol(),
        }


@dataclass(frozen=True)
class _Scorer:
    """Scores pictures of one version; loads each encoder once."""

    memory: Mapping[str, Features]
    photos: Mapping[str, Sequence[Pixels]]
    history: Sequence[tuple[CollectionScore, AdapterVersion]]
    version: AdapterVersion

    def score(self, concept: Concept, pictures: Sequence[Pixels]) -> SkuScore:
        from catalog_pipeline.evaluation.scoring import score_product

        score = score_product(
            concept.sku,
            concept.name,
            _encoder(ENCODER).encode(pictures),
            self.memory,
            self._best_earlier(concept),
        )
        return replace(score, second_share=self._second_share(concept.sku, pictures))

    def _second_share(self, sku: str, pictures: Sequence[Pixels]) -> float | None:
        from catalog_pipeline.evaluation.retention import (
            cosine_to_photos,
            fidelity_share,
            photo_ceiling,
        )

        if len(self.photos[sku]) < 2:
            return None
        encoder = _encoder(SECOND_ENCODER)
        photos = encoder.encode(self.photos[sku])
        fidelity = cosine_to_photos(encoder.encode(pictures), photos)
        return fidelity_share(fidelity, photo_ceiling(photos))

    def _best_earlier(self, concept: Concept) -> float | None:
        """The best fidelity of the same photos in an ancestor."""
        earlier = []
        for score, ancestor in self.history:
            known = ancestor.concept(concept.sku)
            if known is not None and known.photos_hash == concept.photos_hash:
                earlier += [entry.fidelity for entry in score.skus if entry.sku == concept.sku]
        return max(earlier, default=None)


@lru_cache(maxsize=2)
def _encoder(name: str) -> FeatureEncoder:
    from catalog_pipeline.evaluation.features import open_encoder

    return open_encoder(name)


def _reduced(picture: Pixels) -> Pixels:
    """Small enough that the pictures of a large collection fit in memory together."""
    image = Image.fromarray(picture)
    image.thumbnail((_KEPT_PX, _KEPT_PX), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _report_name(collection: str, version: str) -> str:
    return f"evaluation-{collection}-{version}"


def _sampling(generation: GenerationSettings) -> dict[str, object]:
    names = ("sampler", "steps", "guidance", "width", "height", "negative_prompt")
    return {name: getattr(generation, name) for name in names}
