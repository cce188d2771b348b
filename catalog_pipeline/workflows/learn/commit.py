"""What a finished task gives, stored and served: parts, then the version, then the head."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from catalog_pipeline import __version__
from catalog_pipeline.errors import CatalogPipelineError
from catalog_pipeline.records import (
    AdapterVersion,
    Concept,
    LearnOutcome,
    PhotoSet,
    curve_part,
    memory_part,
    part_owner,
)
from catalog_pipeline.settings import BaseModelSettings, Settings
from catalog_pipeline.stores.adapters import AdapterStore, version_hash
from catalog_pipeline.stores.loss_curves import encode_curve
from catalog_pipeline.stores.memory import ENCODER, MemoryEntry, encode_memory, memory_version
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.forgetting_gate import require_untouched_parts
from catalog_pipeline.workflows.learn.learning_inputs import (
    concept_config_hash,
    next_task,
    photos_hash,
)
from catalog_pipeline.workflows.learn.taken_over import TakenOver
from catalog_pipeline.workflows.models import base_model_hash
from catalog_pipeline.workflows.serving import drop_elsewhere

if TYPE_CHECKING:
    from catalog_pipeline.workflows.learn.task_runner import LearnedPart


def commit_learned(
    home: Home,
    store: AdapterStore,
    parent: AdapterVersion | None,
    learned: LearnedPart,
    fence: int,
) -> AdapterVersion:
    """Serve ``learned`` on top of ``parent``, under the lease of ``fence``; drops its staging.

    ``parent`` may be another version than the one that it was trained beside.

    Raises:
        QualityGateError: it would change a part of another SKU.
        ConflictError: the head is no longer ``parent``.
    """
    sku, parts = learned.concept.sku, dict(parent.parts) if parent else {}
    parts |= _written(store, learned.parts)
    entry = MemoryEntry(sku, learned.prompts, learned.features, learned.palette)
    parts[memory_part(sku)] = store.write_part(encode_memory(entry), sku)
    parts.pop(curve_part(sku), None)
    if learned.loss_curve:
        parts[curve_part(sku)] = store.write_part(encode_curve(learned.loss_curve), sku)
    require_untouched_parts(parent, parts, sku)
    concept = replace(learned.concept, task=next_task(parent))
    version = publish_concept(home, store, parent, concept, parts, fence)
    for name in learned.staged:
        store.delete_staging(name)
    return version


def commit_taken(
    home: Home, store: AdapterStore, parent: AdapterVersion | None, taken: TakenOver, fence: int
) -> AdapterVersion:
    """Serve ``taken`` on top of ``parent``, under the lease of ``fence``.

    Raises:
        ConflictError: the head is no longer ``parent``.
    """
    parts = dict(parent.parts) if parent else {}
    parts |= _written(store, taken.parts)
    concept = replace(taken.concept, task=next_task(parent))
    return publish_concept(home, store, parent, concept, parts, fence)


def _written(store: AdapterStore, parts: Mapping[str, bytes]) -> dict[str, str]:
    """Store ``parts``, each of its SKU; name -> SHA-256."""
    written = {}
    for name, data in parts.items():
        owner = part_owner(name)
        written[name] = store.write_part(data, owner) if owner else store.write_part(data)
    return written


def publish_concept(
    home: Home,
    store: AdapterStore,
    parent: AdapterVersion | None,
    concept: Concept,
    parts: dict[str, str],
    fence: int,
) -> AdapterVersion:
    """Write the immutable version, then move the head if it still is ``parent``."""
    kept = tuple(c for c in parent.concepts if c.sku != concept.sku) if parent else ()
    config = home.settings.learning.model_dump_json()
    draft = AdapterVersion(
        version="",
        collection=store.collection,
        parent=parent.version if parent else None,
        concepts=(*kept, concept),
        base_model_hash=base_model_hash(home.settings.base_model),
        config_hash=hashlib.sha256(config.encode()).hexdigest(),
        parts=parts,
        memory_version=memory_version(parts),
        code_version=__version__,
        seed=home.settings.learning.seed,
        created_utc=datetime.now(UTC),
        metrics=dict(concept.metrics),
    )
    version = replace(draft, version=version_hash(draft))
    store.publish(version)
    store.promote(version.version, expected=draft.parent, fence=fence)
    note_promotion(home, version, concept.sku)
    return version


def note_promotion(home: Home, version: AdapterVersion, sku: str) -> None:
    """Tell the audit log that ``version``, which brought ``sku``, is served.

    Raises:
        AuditError: the store did not take the entry.
    """
    facts = {"collection": version.collection, "from": version.parent or ""}
    home.audit.append("promote", sku, version=version.version, facts=facts)


def learned_outcome(learned: LearnedPart, version: AdapterVersion, reason: str) -> LearnOutcome:
    """What became of a SKU that ``version`` serves now; ``reason`` says how, where it matters."""
    return LearnOutcome(
        learned.concept.sku,
        "learned",
        version=version.version,
        reason=reason,
        metrics=learned.concept.metrics,
        loss_curve=tuple(learned.loss_curve),
        contact_sheet_png=learned.contact_sheet_png,
    )


def dropped_elsewhere(home: Home, photo_set: PhotoSet, outcome: LearnOutcome) -> LearnOutcome:
    """A collection that cannot drop the SKU now is its own trouble: what was learned counts."""
    sku = photo_set.sku
    try:
        drop_elsewhere(home, sku.sku, sku.collection)
    except CatalogPipelineError as error:
        left = f"`catalog-pipeline retire` is to drop it elsewhere: {error}"
        return replace(outcome, reason="; ".join(filter(None, (outcome.reason, left))))
    return outcome


def learning_config(settings: Settings) -> str:
    """Hash of the settings and the base that a concept learned now would depend on."""
    return concept_config_hash(settings.learning, base_identity(settings.base_model), ENCODER)


def is_current(
    settings: Settings, parent: AdapterVersion, known: Concept, photo_set: PhotoSet
) -> bool:
    """Whether ``known`` of ``parent`` is what learning ``photo_set`` now would give.

    An imported one is, whatever the settings of learning: they have not made it.
    """
    if known.imported_from:
        settled = parent.base_model_hash == base_model_hash(settings.base_model)
    else:
        settled = known.config_hash == learning_config(settings)
    return settled and known.photos_hash == photos_hash(photo_set)


def base_identity(settings: BaseModelSettings) -> str:
    """Of all of a base that learned weights depend on: its files, and what settings ask of it.

    Rounded weights are another base: a slot also learns to undo their errors.
    """
    base = base_model_hash(settings)
    if settings.side_px is not None:
        base = f"{base} at {settings.side_px} px"
    return base if settings.quantise == "none" else f"{base} in {settings.quantise}"
