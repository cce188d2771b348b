"""The figures of a night's report, from its rows and its attempts at learning. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catalog_pipeline.evaluation.gallery import GalleryProduct, likeness_of
from catalog_pipeline.records import ArchiveRow, LearningRow

BEST_SHOWN = 3
"""Pictures of a new product, at most."""

NEW_SHOWN = 24
"""New products with photo and pictures, at most; the others are named."""

WORST_SHOWN = 6
HELD_SHOWN = 18

_NOTHING = GalleryProduct("", "")


def likeness(row: ArchiveRow, products: Mapping[str, GalleryProduct]) -> float | None:
    """How alike the least alike product of a picture is; ``None`` where none was measured."""
    found = [likeness_of(row.scores, sku, products.get(sku, _NOTHING).ceiling) for sku in row.skus]
    return min((value for value in found if value is not None), default=None)


def best_rows(
    rows: Iterable[ArchiveRow], sku: str, products: Mapping[str, GalleryProduct]
) -> list[ArchiveRow]:
    """The pictures that show ``sku`` best, at most :data:`BEST_SHOWN`; measured ones first."""

    def order(row: ArchiveRow) -> tuple[bool, float, int, str]:
        value = likeness_of(row.scores, sku, products.get(sku, _NOTHING).ceiling)
        return value is None, -(value or 0.0), len(row.skus), row.image_id

    return sorted((row for row in rows if sku in row.skus), key=order)[:BEST_SHOWN]


def worst_rows(
    rows: Iterable[ArchiveRow], products: Mapping[str, GalleryProduct]
) -> list[tuple[ArchiveRow, float]]:
    """The least alike pictures with their likeness, at most :data:`WORST_SHOWN`."""
    measured = [(row, value) for row in rows if (value := likeness(row, products)) is not None]
    return sorted(measured, key=lambda found: (found[1], found[0].image_id))[:WORST_SHOWN]


def rows_to_show(
    rows: Sequence[ArchiveRow],
    held: Sequence[ArchiveRow],
    new: Sequence[str],
    products: Mapping[str, GalleryProduct],
) -> dict[str, ArchiveRow]:
    """Every row whose picture stands on the page, by image id."""
    best = [row for sku in new[:NEW_SHOWN] for row in best_rows(rows, sku, products)]
    worst = [row for row, _ in worst_rows(rows, products)]
    return {row.image_id: row for row in (*best, *worst, *held[:HELD_SHOWN])}


@dataclass(frozen=True)
class ProductErrors:
    """A product against the photos in the pictures: CIEDE2000, share of text read wrong, cosine.

    ``text`` is ``None`` where nothing could be read.
    """

    sku: str
    pictures: int
    delta_e: float
    delta_e_worst: float
    text: float | None
    text_worst: float | None
    likeness: float | None


def product_errors(rows: Iterable[ArchiveRow]) -> list[ProductErrors]:
    """One a product that was held against its photo, the most off in colour first."""
    measured: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for row in rows:
        for sku in row.skus:
            if f"delta_e/{sku}" in row.scores:
                measured[sku].append(row.scores)
    found = []
    for sku, scores in measured.items():
        colors, texts, alike = (
            [each[f"{name}/{sku}"] for each in scores if f"{name}/{sku}" in each]
            for name in ("delta_e", "text_error", "crop_likeness")
        )
        found.append(
            ProductErrors(
                sku=sku,
                pictures=len(scores),
                delta_e=float(np.mean(colors)),
                delta_e_worst=max(colors),
                text=float(np.mean(texts)) if texts else None,
                text_worst=max(texts, default=None),
                likeness=min(alike, default=None),
            )
        )
    return sorted(found, key=lambda each: (-each.delta_e_worst, each.sku))


@dataclass(frozen=True)
class StepTime:
    """What a step of a night took: ``learning``, or ``rendering`` of one ``mode``."""

    step: str
    number: int
    seconds: float
    mode: str = ""


def time_spent(attempts: Sequence[LearningRow], rows: Sequence[ArchiveRow]) -> list[StepTime]:
    """The time of every step that the night had; ``rows`` with those held back."""
    steps = []
    if attempts:
        seconds = sum(attempt.seconds for attempt in attempts)
        steps.append(StepTime("learning", len(attempts), seconds))
    for mode in sorted({row.mode for row in rows}):
        made = [row for row in rows if row.mode == mode]
        steps.append(StepTime("rendering", len(made), sum(r.render_seconds for r in made), mode))
    return steps


@dataclass(frozen=True)
class Forgetting:
    """What the gate saw earlier products and the bare base lose when ``sku`` was learned."""

    sku: str
    status: str
    forgetting: float | None
    drift: float | None
    exact: bool

    @property
    def nothing(self) -> bool:
        """Nothing can be lost, and nothing was."""
        return self.exact and not self.forgetting and not self.drift


def forgetting_of(attempts: Iterable[LearningRow]) -> list[Forgetting]:
    """One an attempt that a gate has measured, the largest fall first."""
    found = [
        Forgetting(
            sku=attempt.sku,
            status=attempt.status,
            forgetting=attempt.metrics.get("forgetting"),
            drift=attempt.metrics.get("prior_drift"),
            exact=_owns_weights(attempt.settings),
        )
        for attempt in attempts
        if {"forgetting", "prior_drift"} & attempt.metrics.keys()
    ]
    return sorted(found, key=lambda each: (-(each.forgetting or 0.0), -(each.drift or 0.0)))


def _owns_weights(settings: str) -> bool:
    """Whether ``learning.yaml``, as JSON, gives every product weights of its own."""
    try:
        return bool(json.loads(settings)["adapter"]["slots"] == "per_concept")
    except (ValueError, KeyError, TypeError):
        return False
