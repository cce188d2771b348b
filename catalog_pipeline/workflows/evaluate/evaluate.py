"""Measure what collections retain: fixed prompts at fixed seeds, against the memory bank."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.records import AdapterVersion
from catalog_pipeline.stores.loss_curves import read_curve
from catalog_pipeline.workflows.evaluate.base_only import rendering_settings
from catalog_pipeline.workflows.evaluate.history import (
    PastEvaluation,
    best_earlier,
    past_evaluations,
    report_name,
    retention_matrix,
)
from catalog_pipeline.workflows.evaluate.pictures import PHOTOS, FeatureExtractor, VersionFeatures
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import (
    check_base_model,
    check_picture_size,
    served_version,
)
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress
from catalog_pipeline.workflows.report_pages import each_with_photos, write_page

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.report import EvaluationPage
    from catalog_pipeline.evaluation.retention import RetentionMatrix
    from catalog_pipeline.evaluation.scoring import CollectionScore, SkuScore


@dataclass(frozen=True)
class EvaluatedCollection:
    """One collection's figures and where its pages are."""

    score: CollectionScore
    retention: RetentionMatrix
    html_path: Path
    json_path: Path

    def to_record(self) -> dict[str, Any]:
        """What the JSON file holds: the figures, and the retention matrix over the history."""
        return _record(self.score, self.retention)


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

    def to_record(self) -> dict[str, Any]:
        """For programs: every collection's JSON file, with the paths of both files."""
        return {
            "collections": [
                {
                    **part.to_record(),
                    "html_path": str(part.html_path),
                    "json_path": str(part.json_path),
                }
                for part in self.collections
            ]
        }


def evaluate(
    home: Home,
    collection: str | None = None,
    images_per_sku: int | None = None,
    *,
    progress: ProgressSink | None = None,
) -> EvaluationReport:
    """Render every learned product at fixed prompts and seeds, and compare with its photos.

    Measured is the served version of ``collection``, or of every collection that
    has one, with ``images_per_sku`` pictures a product (default: ``evaluation.yaml``).
    Writes ``reports/evaluation-<collection>-<version>.html`` and ``.json``; earlier JSON
    files of the version's ancestors tell how much was forgotten. Evaluating a version
    again replaces its files.

    Raises:
        GenerationError: nothing learned, nothing that the encoder can measure, or
            ``images_per_sku`` below 1.
        BaseModelError: the base model cannot be opened.
        LearningError: the version belongs to another base model.
        ConfigurationError: the encoders' packages are missing, there is no such encoder, or
            the base makes no picture of the size that ``generation.yaml`` asks for.
    """
    images = home.settings.evaluation.images_per_sku if images_per_sku is None else images_per_sku
    if images < 1:
        raise GenerationError(f"images_per_sku is {images}; expected at least 1")
    served = [name for name in home.collections() if home.adapters(name).head() is not None]
    if collection is None and not served:
        raise GenerationError("no collection has learned anything; run `catalog-pipeline learn`")
    check_base_model(home.settings)
    check_picture_size(home.settings)
    names = served if collection is None else [collection]
    sink = progress or SilentProgress()
    return EvaluationReport(
        tuple(_Evaluation(home, images, sink, served_version(home, name)).run() for name in names)
    )


def _record(score: CollectionScore, retention: RetentionMatrix) -> dict[str, Any]:
    return {**score.to_record(), "retention": json.loads(retention.to_json())}


@dataclass(frozen=True)
class _Evaluation:
    home: Home
    images_per_sku: int
    progress: ProgressSink
    version: AdapterVersion

    def run(self) -> EvaluatedCollection:
        from catalog_pipeline.evaluation.report import render_report

        version = self.version
        extractor = FeatureExtractor(self.home, version, self.images_per_sku, self.progress)
        protocol = self._protocol(extractor)
        past = past_evaluations(self.home, version, protocol)
        features = extractor.extract()
        score = self._score(features, protocol, best_earlier(past, version.concepts))
        retention = retention_matrix([*past, PastEvaluation(score, version)])
        page = self._page(score, retention, features, [entry.score for entry in past])
        name = report_name(version.collection, version.version)
        html_path = self._write(f"{name}.html", render_report(page))
        record = json.dumps(_record(score, retention), indent=1, sort_keys=True, ensure_ascii=False)
        json_path = self._write(f"{name}.json", record + "\n")
        return EvaluatedCollection(score, retention, html_path, json_path)

    def _write(self, name: str, text: str) -> Path:
        return write_page(self.home, name, text.encode())

    def _score(
        self, features: VersionFeatures, protocol: str, earlier: dict[str, float]
    ) -> CollectionScore:
        from catalog_pipeline.evaluation.collection import score_encoder, score_skus
        from catalog_pipeline.evaluation.scoring import CollectionScore

        concepts = self.version.concepts
        names = {concept.sku: concept.name for concept in concepts}
        nouns = {concept.sku: concept.class_noun for concept in concepts}
        per_encoder = [
            (seen, score_skus(seen, names, nouns, {} if index else earlier))
            for index, seen in enumerate(features.by_encoder)
        ]
        (_, first), *others = per_encoder
        shares = {
            seen.encoder: {score.sku: score.share for score in scores} for seen, scores in others
        }
        return CollectionScore(
            collection=self.version.collection,
            version=self.version.version,
            protocol=protocol,
            images_per_sku=self.images_per_sku,
            skus=tuple(
                replace(
                    score,
                    other_shares={
                        name: by_sku[score.sku]
                        for name, by_sku in shares.items()
                        if score.sku in by_sku
                    },
                )
                for score in first
            ),
            encoders=tuple(score_encoder(seen, scores, nouns) for seen, scores in per_encoder),
            unmeasured=tuple(sorted(set(names) - {score.sku for score in first})),
        )

    def _page(
        self,
        score: CollectionScore,
        retention: RetentionMatrix,
        features: VersionFeatures,
        history: Sequence[CollectionScore],
    ) -> EvaluationPage:
        from catalog_pipeline.evaluation.html_pages import picture_uri
        from catalog_pipeline.evaluation.report import EvaluationPage, skus_to_show

        shown = skus_to_show(score)
        store = self.home.adapters(self.version.collection)
        photos = dict(each_with_photos(self.home, shown, PHOTOS))
        curves = {sku: read_curve(store, self.version, sku) for sku in shown}
        return EvaluationPage(
            score=score,
            version=self.version,
            settings=self._described(score),
            scenes=features.by_encoder[0].scenes,
            photos={sku: [picture_uri(p, 256) for p in found] for sku, found in photos.items()},
            samples={sku: features.samples[sku] for sku in shown},
            retention=retention,
            history=history,
            loss_curves={sku: curve for sku, curve in curves.items() if curve},
        )

    def _protocol(self, extractor: FeatureExtractor) -> str:
        """Equal for two evaluations whose figures may be compared."""
        content = {
            "encoder": next(iter(extractor.encoders)),
            "scenes": extractor.scenes,
            "sampling": rendering_settings(self.home.settings.generation),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def _described(self, score: CollectionScore) -> dict[str, str]:
        version = self.version
        sampling = rendering_settings(self.home.settings.generation)
        return {
            "version": version.version,
            "parent": version.parent or "none",
            "base model": version.base_model_hash,
            "memory": version.memory_version,
            "code": version.code_version,
            "encoders": "; ".join(encoder.encoder for encoder in score.encoders),
            "sampling": ", ".join(f"{key} {value}" for key, value in sampling.items() if value),
            "protocol": score.protocol,
        }
