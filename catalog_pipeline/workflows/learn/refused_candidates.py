"""Refused candidates, kept for a person to look at.

``collections/<collection>/quarantine/<sku>-<fingerprint>/``::

    <kind>.safetensors     what would have become the part concept/<sku>, or shared
    pictures.png           why: before and after, or photos and samples
    report.json            figures of every try, tolerances, hashes

Nothing reads them back; they may be deleted at any time. The fingerprint hashes photos,
settings and parent, so the same refusal replaces itself. The report is written last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from catalog_pipeline import __version__
from catalog_pipeline.errors import QualityGateError
from catalog_pipeline.records import AdapterVersion, Concept, Pixels
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.learn.forgetting_report import Comparison, ForgettingReport
from catalog_pipeline.workflows.report_pages import where_to_look

REPORT_SCHEMA_VERSION = 1
_PICTURES = "pictures.png"
_CELL_PX = 96
_COLUMNS = 8
_SKUS_SHOWN = 4


@dataclass(frozen=True)
class RefusedCandidate:
    """A candidate that must not be promoted, and why.

    ``complaint`` is what was got and expected, ``advice`` what to do and ``again`` the
    command that tries again; ``tries`` are the figures of every try, the refused one last.
    ``others`` are the SKUs that the picture shows besides.
    """

    concept: Concept
    parent: AdapterVersion | None
    fingerprint: str
    parts: Mapping[str, bytes]
    picture_png: bytes
    complaint: str
    advice: str
    metrics: Mapping[str, float]
    tries: tuple[dict[str, Any], ...]
    again: str
    others: tuple[str, ...] = ()


def keep_refused(
    objects: ObjectStore, store: AdapterStore, refused: RefusedCandidate, settings: LearningSettings
) -> QualityGateError:
    """Keep the candidate, its pictures and its figures; returns the error to raise."""
    sku = refused.concept.sku
    folder = f"collections/{store.collection}/quarantine/{sku}-{refused.fingerprint[:16]}/"
    files = {f"{n.partition('/')[0]}.safetensors": data for n, data in refused.parts.items()}
    files[_PICTURES] = refused.picture_png
    for name, data in sorted(files.items()):
        shown = refused.others if name == _PICTURES else ()
        objects.for_skus(sku, *shown).put(folder + name, data)
    report = _report(store.collection, refused, settings)
    text = json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False)
    objects.for_skus(sku).put(folder + "report.json", text.encode() + b"\n")
    again = ""
    if len(refused.tries) > 1:
        weights = refused.tries[-1]["losses"]
        again = (
            f" (second try, with replay_weight {weights['replay_weight']:g}, distillation_weight "
            f"{weights['distillation_weight']:g}, prior_weight {weights['prior_weight']:g})"
        )
    place = where_to_look(objects, folder + _PICTURES)
    return QualityGateError(
        f"{sku}: {refused.complaint}{again}; the head stays as it was; the candidate and "
        f"its pictures are in {place}; {refused.advice}; then run "
        f"`catalog-pipeline {refused.again}`",
        picture_png=refused.picture_png,
        figures=refused.metrics,
    )


def before_after_sheet(report: ForgettingReport) -> bytes:
    """PNG: two rows, before and after, for what fell; the worst SKUs first, then the base."""
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png

    shown = [*report.fallen[:_SKUS_SHOWN]]
    if report.prior is not None and report.prior_fell:
        shown.append(report.prior)
    rows: list[list[Pixels]] = []
    captions: list[str] = []
    for found in shown:
        rows += [_row(found.pictures_before), _row(found.pictures_after)]
        captions += [_caption(found, "before", found.before), _caption(found, "after", found.after)]
    return encode_png(contact_sheet(rows, captions=captions, cell_px=_CELL_PX))


def shown_besides(report: ForgettingReport) -> tuple[str, ...]:
    """The SKUs that :func:`before_after_sheet` shows."""
    return tuple(found.subject for found in report.fallen[:_SKUS_SHOWN])


def _row(pictures: tuple[Pixels, ...]) -> list[Pixels]:
    return [np.asarray(picture) for picture in pictures[:_COLUMNS]]


def _caption(found: Comparison, when: str, value: float) -> str:
    return f"{found.subject} {when}: {value:.3f}"


def _report(
    collection: str, refused: RefusedCandidate, settings: LearningSettings
) -> dict[str, Any]:
    concept, parent = refused.concept, refused.parent
    gates = {k: v for k, v in settings.model_dump(mode="json").items() if k.startswith("gate_")}
    return {
        "schema_version": REPORT_SCHEMA_VERSION,
        "collection": collection,
        "sku": concept.sku,
        "placeholder_tokens": list(concept.placeholder_tokens),
        "class_noun": concept.class_noun,
        "photos_hash": concept.photos_hash,
        "config_hash": concept.config_hash,
        "parent": parent.version if parent else None,
        "code_version": __version__,
        "complaint": refused.complaint,
        "gate": gates,
        "metrics": {name: round(float(v), 6) for name, v in sorted(refused.metrics.items())},
        "tries": list(refused.tries),
    }
