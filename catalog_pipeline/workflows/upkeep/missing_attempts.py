"""Learned products of which the learning log has no row: of a release before it, or of a crash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from catalog_pipeline.records import AdapterVersion, Concept, IndexRow, LearningRow, concept_part
from catalog_pipeline.workflows.home import Home


def missing_attempts(home: Home) -> list[LearningRow]:
    """A row for each concept of a head that the log does not know, as far as versions tell.

    Its photos, settings and seconds are not known any more: they are empty.

    Raises:
        StoreError: the log or a version cannot be read.
    """
    log = home.learning_log
    known = {
        (row.sku, row.concept_sha256)
        for day in log.days()
        for row in log.read_day(day)
        if row.status == "learned"
    }
    return [
        _row(version, concept)
        for name in home.collections()
        for version, concept in _first_versions(home, name)
        if (concept.sku, version.parts[concept_part(concept.sku)]) not in known
    ]


def with_learned_version(row: IndexRow, learned: LearningRow) -> IndexRow:
    """``row`` with when it was learned, where it does not say so itself."""
    if row.learned_version or row.sku != learned.sku or not row.learned_hash:
        return row
    return replace(row, learned_version=learned.version, learned_utc=learned.ended_utc)


def _first_versions(home: Home, name: str) -> Iterator[tuple[AdapterVersion, Concept]]:
    """Each concept of the head, with the version of its line that brought its present part."""
    store = home.adapters(name)
    head = store.current()
    if head is None:
        return
    waiting = {c.sku: c for c in head.concepts if concept_part(c.sku) in head.parts}
    version: AdapterVersion | None = head
    while version is not None and waiting:
        before = store.read(version.parent) if version.parent else None
        for sku in list(waiting):
            part = concept_part(sku)
            if before is None or before.parts.get(part) != version.parts[part]:
                yield version, waiting.pop(sku)
        version = before


def _row(version: AdapterVersion, concept: Concept) -> LearningRow:
    return LearningRow(
        attempt_id=f"{concept.sku}@{version.version}",
        sku=concept.sku,
        collection=version.collection,
        status="learned",
        reason="noted afterwards, from the version",
        version=version.version,
        concept_sha256=version.parts[concept_part(concept.sku)],
        ended_utc=version.created_utc,
        seconds=0.0,
        name=concept.name,
        class_noun=concept.class_noun,
        content_hash="",
        photos_hash=concept.photos_hash,
        config_hash=concept.config_hash,
        base_model_hash=version.base_model_hash,
        code_version=version.code_version,
        settings="{}",
        photos=(),
        metrics=dict(concept.metrics),
        imported_from=concept.imported_from,
    )
