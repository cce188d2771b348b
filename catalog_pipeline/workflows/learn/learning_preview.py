"""What learning would do now, SKU by SKU. Writes nothing and loads no model.

:func:`preview_learning` reads the photos and says how each would come out;
:func:`forecast_learning` goes by the index alone, so that a whole catalog is quick to look at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from catalog_pipeline.errors import CatalogPipelineError
from catalog_pipeline.records import IndexRow, LearnOutcome, SkuStatus
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.commit import is_current, learning_config
from catalog_pipeline.workflows.learn.learn_concepts import choose_rows
from catalog_pipeline.workflows.learn.learning_inputs import draft_concept, photos_hash
from catalog_pipeline.workflows.learn.taken_over import find_learned
from catalog_pipeline.workflows.models import base_model_hash
from catalog_pipeline.workflows.serving import read_heads

WOULD_LEARN = "would learn"
WOULD_FAIL = "would fail"
CURRENT = "current"
_DAYS_LOOKED_AT = 14
_WAITING = {
    SkuStatus.NEW: "new",
    SkuStatus.CHANGED: "photos or card have changed",
    SkuStatus.FAILED: "failed before",
    SkuStatus.RETIRED: "its folder is gone",
}


def preview_learning(
    home: Home, skus: Sequence[str] | None = None, *, force: bool = False
) -> Iterator[LearnOutcome]:
    """What ``learn_concepts`` with the same arguments would do, by what is known before training.

    ``status`` is ``would learn``, ``would fail`` (the photo set, with the reason) or
    ``unchanged``. Reads the photos of each SKU. A gate may still refuse what is learned.

    Raises:
        CatalogError: the index is empty, or does not know one of ``skus``.
    """
    for row in choose_rows(home.index.read(), skus):
        try:
            yield _preview(home, row, force)
        except CatalogPipelineError as error:
            yield LearnOutcome(row.sku, WOULD_FAIL, reason=str(error))


def _preview(home: Home, row: IndexRow, force: bool) -> LearnOutcome:
    photo_set = validate_photo_set(home, row.sku)
    parent = home.adapters(photo_set.sku.collection).current()
    known = parent.concept(row.sku) if parent else None
    photos = f"{len(photo_set.photos)} photos used, {len(photo_set.refused)} left out"
    if not force:
        if parent and known and is_current(home.settings, parent, known, photo_set):
            reason = f"already learned from these photos with these settings; {photos}"
            return LearnOutcome(row.sku, "unchanged", version=parent.version, reason=reason)
        tokens = home.settings.learning.adapter.tokens_per_concept
        config = learning_config(home.settings)
        draft = draft_concept(parent, photo_set.sku, tokens, photos_hash(photo_set), config)
        taken = find_learned(home, draft)
        if taken is not None:
            reason = f"as {taken.source}, without training; {photos}"
            return LearnOutcome(row.sku, WOULD_LEARN, reason=reason)
    how = "again" if known else "for the first time"
    reason = f"{how}, {home.settings.learning.length}; {photos}"
    return LearnOutcome(row.sku, WOULD_LEARN, reason=reason)


@dataclass(frozen=True)
class LearnForecast:
    """What `learn` would do with one SKU: ``why`` it would be learned, or ``current``."""

    sku: str
    why: str

    @property
    def trains(self) -> bool:
        """Whether it would be trained."""
        return self.why != CURRENT


def forecast_learning(
    home: Home, skus: Sequence[str] | None = None, *, everything: bool = False
) -> list[LearnForecast]:
    """What a run with the same arguments would do, first seen first; writes nothing.

    A SKU whose photos and card are as they were counts as to be trained when the settings that
    its weights depend on are others now. An imported LoRA does not depend on them.

    Raises:
        CatalogError: the index is empty, or does not know one of ``skus``.
        BaseModelError: the base model cannot be opened.
        StoreError: a head cannot be read.
    """
    settings, heads = home.settings, read_heads(home)
    config = learning_config(settings)
    base = base_model_hash(settings.base_model)

    def why(row: IndexRow) -> str:
        head = heads.get(row.collection)
        concept = head.concept(row.sku) if head else None
        if row.status is not SkuStatus.LEARNED or head is None or concept is None:
            return _WAITING.get(row.status, "not in the served version")
        if head.base_model_hash != base:
            return "learned on another base model"
        same = concept.imported_from or concept.config_hash == config
        return CURRENT if same else "learned under other settings"

    rows = choose_rows(home.index.read(), skus, everything=everything)
    return [LearnForecast(row.sku, why(row)) for row in rows]


def seconds_per_sku(home: Home) -> float | None:
    """Of one SKU with the present steps or minutes, by the log of late; ``None`` if nobody knows.

    Minutes that the log has not seen are taken as they are, or as long as the fewest steps take.
    """
    learning = home.settings.learning
    paces, whole = [], []
    for day in home.learning_log.days()[-_DAYS_LOOKED_AT:]:
        for row in home.learning_log.read_day(day):
            trained = row.status == "learned" and "final_loss" in row.metrics
            if trained and row.steps and row.seconds > 0:
                paces.append(row.seconds / row.steps)
                if json.loads(row.settings).get("minutes_per_sku") == learning.minutes_per_sku:
                    whole.append(row.seconds)
    if learning.minutes_per_sku is None:
        return median(paces) * learning.steps if paces else None
    if whole:
        return median(whole)
    from catalog_pipeline.learning.schedule import fewest_steps

    least = median(paces) * fewest_steps(learning.early_stop.min_steps) if paces else 0.0
    return max(60 * learning.minutes_per_sku, least)
