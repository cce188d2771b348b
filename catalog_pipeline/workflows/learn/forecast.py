"""What a run of learning would do, and about how long it would take; nothing is read or trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from catalog_pipeline.records import IndexRow, SkuStatus
from catalog_pipeline.stores.memory import ENCODER
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.commit import base_identity
from catalog_pipeline.workflows.learn.learn_concepts import choose_rows
from catalog_pipeline.workflows.learn.learning_inputs import concept_config_hash
from catalog_pipeline.workflows.models import base_model_hash
from catalog_pipeline.workflows.serving import read_heads

CURRENT = "current"
_DAYS_LOOKED_AT = 14
_WAITING = {
    SkuStatus.NEW: "new",
    SkuStatus.CHANGED: "photos or card have changed",
    SkuStatus.FAILED: "failed before",
    SkuStatus.RETIRED: "its folder is gone",
}


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
    config = concept_config_hash(settings.learning, base_identity(settings.base_model), ENCODER)
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
    """Of one SKU with the present number of steps, by the log of late; ``None`` without any."""
    paces = []
    for day in home.learning_log.days()[-_DAYS_LOOKED_AT:]:
        for row in home.learning_log.read_day(day):
            steps = json.loads(row.settings).get("steps", 0)
            trained = row.status == "learned" and "final_loss" in row.metrics
            if trained and steps and row.seconds > 0:
                paces.append(row.seconds / steps)
    return median(paces) * home.settings.learning.steps if paces else None
