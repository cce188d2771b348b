"""Earlier evaluations of a version's ancestors: what was forgotten since, and when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.records import AdapterVersion, Concept
from catalog_pipeline.workflows.home import Home

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.retention import RetentionMatrix
    from catalog_pipeline.evaluation.scoring import CollectionScore


@dataclass(frozen=True)
class PastEvaluation:
    """The figures of a version, and the version."""

    score: CollectionScore
    version: AdapterVersion


def report_name(collection: str, version: str) -> str:
    """What an evaluation's files are called, without their endings."""
    return f"evaluation-{collection}-{version}"


def past_evaluations(home: Home, version: AdapterVersion, protocol: str) -> list[PastEvaluation]:
    """Evaluations of the ancestors of ``version`` by the same ``protocol``, oldest first.

    Raises:
        IntegrityError: one of the files is no evaluation.
    """
    from catalog_pipeline.evaluation.scoring import CollectionScore

    prefix = f"reports/{report_name(version.collection, '')}"
    keys = {
        key.removeprefix(prefix).removesuffix(".json"): key
        for key in home.objects.list(prefix)
        if key.endswith(".json")
    }
    # Another collection's name may begin with this one's; a version's holds no hyphen.
    waiting = {name for name in keys if "-" not in name} - {version.version}
    store = home.adapters(version.collection)
    found: list[PastEvaluation] = []
    parent = version.parent
    while parent is not None and waiting:
        try:
            ancestor = store.read(parent)
        except ObjectNotFoundError:
            break  # Versions may be cleaned up; what is left still compares.
        if parent in waiting:
            waiting.remove(parent)
            score = CollectionScore.from_record(_json(home, keys[parent]))
            if score.protocol == protocol:
                found.append(PastEvaluation(score, ancestor))
        parent = ancestor.parent
    return found[::-1]


def _json(home: Home, key: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(home.objects.read(key).data)
    except ValueError as error:
        raise IntegrityError(
            f"{home.objects.uri(key)} is not JSON ({error}); expected an evaluation; delete the "
            "file, or serve that version and evaluate it again"
        ) from error
    return record


def best_earlier(past: Sequence[PastEvaluation], concepts: Sequence[Concept]) -> dict[str, float]:
    """SKU -> the best fidelity of the same photos in an ancestor, where one was measured."""
    photos = {concept.sku: concept.photos_hash for concept in concepts}
    best: dict[str, float] = {}
    for entry in past:
        for score in entry.score.skus:
            known = entry.version.concept(score.sku)
            if known is not None and known.photos_hash == photos.get(score.sku):
                best[score.sku] = max(best.get(score.sku, score.fidelity), score.fidelity)
    return best


def retention_matrix(evaluations: Sequence[PastEvaluation]) -> RetentionMatrix:
    """``R[k, j]`` over ``evaluations``, oldest first; the last one says which concepts there are.

    A row is the state after a concept was learned; states that nobody evaluated stay NaN.
    A product that was learned anew counts from then on, and one that was retired not at all.
    """
    from catalog_pipeline.evaluation.retention import RetentionMatrix

    measured = {score.sku for score in evaluations[-1].score.skus}
    order = sorted(
        (concept for concept in evaluations[-1].version.concepts if concept.sku in measured),
        key=lambda concept: concept.task,
    )
    matrix = RetentionMatrix(tuple(concept.sku for concept in order))
    for entry in evaluations:
        task = max((concept.task for concept in entry.version.concepts), default=0)
        then = [concept for concept in order if concept.task <= task]
        known = {concept.sku for concept in then if _same_learning(entry.version, concept)}
        figures = {s.sku: s.fidelity for s in entry.score.skus if s.sku in known}
        if figures:
            matrix.record(then[-1].sku, figures)
    return matrix


def _same_learning(version: AdapterVersion, concept: Concept) -> bool:
    known = version.concept(concept.sku)
    return known is not None and (known.task, known.photos_hash) == (
        concept.task,
        concept.photos_hash,
    )
