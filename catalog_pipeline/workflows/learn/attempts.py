"""What an attempt at learning leaves in the learning log and in the index."""

from __future__ import annotations

from datetime import UTC, datetime

from catalog_pipeline import __version__
from catalog_pipeline.catalog.index import mark_learned
from catalog_pipeline.records import (
    AdapterVersion,
    IndexRow,
    LearningRow,
    LearnOutcome,
    PhotoSet,
    concept_part,
)
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import base_model_hash


def log_learned(
    home: Home,
    photo_set: PhotoSet,
    version: AdapterVersion,
    *,
    reason: str = "",
    seconds: float = 0.0,
) -> None:
    """Note that ``version`` was published with the SKU of ``photo_set``; idempotent.

    In the audit log first: a row of the learning log says that it stands there.
    """
    concept = version.concept(photo_set.sku.sku)
    assert concept is not None
    row = LearningRow(
        attempt_id=f"{concept.sku}@{version.version}",
        sku=concept.sku,
        collection=version.collection,
        status="learned",
        reason=reason,
        version=version.version,
        concept_sha256=version.parts[concept_part(concept.sku)],
        ended_utc=version.created_utc,
        seconds=seconds,
        name=concept.name,
        class_noun=concept.class_noun,
        content_hash=photo_set.content_hash,
        photos_hash=concept.photos_hash,
        config_hash=concept.config_hash,
        base_model_hash=version.base_model_hash,
        code_version=version.code_version,
        settings=home.settings.learning.model_dump_json(),
        photos=photo_set.uses,
        metrics=dict(concept.metrics),
        imported_from=concept.imported_from,
    )
    if not home.learning_log.holds(row):
        action, facts = ("import" if row.imported_from else "learn"), {"collection": row.collection}
        home.audit.append(action, row.sku, version=row.version, facts=facts)
    home.learning_log.add(row)


def note_refusal(home: Home, sku: str, collection: str) -> None:
    """Tell the audit log that a candidate did not pass the quality gate."""
    home.audit.append("refuse", sku, facts={"collection": collection})


def log_failed(
    home: Home, row: IndexRow, photo_set: PhotoSet | None, outcome: LearnOutcome, seconds: float
) -> None:
    """Note that learning the SKU of ``row`` failed; ``photo_set`` as far as it was read."""
    ended = datetime.now(UTC)
    home.learning_log.add(
        LearningRow(
            attempt_id=f"{row.sku}@{ended.isoformat()}",
            sku=row.sku,
            collection=row.collection,
            status="failed",
            reason=outcome.reason,
            version="",
            concept_sha256="",
            ended_utc=ended,
            seconds=seconds,
            name=row.name,
            class_noun=row.class_noun,
            content_hash=photo_set.content_hash if photo_set else row.content_hash,
            photos_hash="",
            config_hash="",
            base_model_hash=base_model_hash(home.settings.base_model),
            code_version=__version__,
            settings=home.settings.learning.model_dump_json(),
            photos=photo_set.uses if photo_set else (),
            metrics=dict(outcome.metrics),
        )
    )


def note_learned(
    home: Home, row: IndexRow, photo_set: PhotoSet, version: AdapterVersion | None
) -> None:
    """Mark the SKU as learned in the index; ``version`` is the one that did, where it is new.

    ``row`` is as it was before the photos were read.
    """
    home.index.update(
        lambda rows: mark_learned(
            rows,
            photo_set.sku.sku,
            photo_set.content_hash,
            listed_before=row.content_hash,
            photos=photo_set.uses,
            version=version.version if version else "",
            learned_utc=version.created_utc if version else None,
        )
    )


def has_learned(store: AdapterStore, version: AdapterVersion, sku: str) -> bool:
    """Whether it was ``version`` that brought the present concept of ``sku``."""
    part = version.parts[concept_part(sku)]
    before = store.read(version.parent) if version.parent else None
    return before is None or before.parts.get(concept_part(sku)) != part
