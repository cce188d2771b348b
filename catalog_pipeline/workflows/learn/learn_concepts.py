"""Learn SKUs one after the other, each committed before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from catalog_pipeline.catalog.index import mark_failed, mark_learned
from catalog_pipeline.errors import (
    CatalogError,
    CatalogPipelineError,
    ConflictError,
    LockTimeoutError,
    QualityGateError,
    StorageFullError,
)
from catalog_pipeline.records import (
    AdapterVersion,
    Concept,
    IndexRow,
    LearnOutcome,
    PhotoSet,
    SkuStatus,
)
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.loss_curves import read_curve
from catalog_pipeline.stores.memory import ENCODER
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.commit import (
    base_identity,
    commit_learned,
    dropped_elsewhere,
    learned_outcome,
    publish_concept,
)
from catalog_pipeline.workflows.learn.curation import curate, spare_photos, told_of_shared
from catalog_pipeline.workflows.learn.learning_inputs import (
    LearningTools,
    concept_config_hash,
    draft_concept,
    open_method,
    open_tools,
    photos_hash,
)
from catalog_pipeline.workflows.learn.prompt_lengths import check_class_noun, check_scenes
from catalog_pipeline.workflows.learn.taken_over import find_learned
from catalog_pipeline.workflows.models import (
    base_model_hash,
    check_base_model,
    check_same_base,
    prompt_tokenizer,
    require_memory,
)
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress

if TYPE_CHECKING:
    from catalog_pipeline.learning.methods.method import LifelongMethod
    from catalog_pipeline.workflows.learn.task_runner import LearnedPart

LEASE_WAIT_SECONDS = 3600.0


def learn_concepts(
    home: Home,
    skus: Sequence[str] | None = None,
    *,
    progress: ProgressSink | None = None,
    on_photo_set: Callable[[PhotoSet], None] | None = None,
    force: bool = False,
) -> Iterator[LearnOutcome]:
    """Learn ``skus``, or every new, changed and failed one, first seen first.

    Yields an outcome as soon as its SKU is committed. A SKU that fails is
    yielded with status ``failed`` and the rest go on. Same photos and settings
    as the head's, or the photos beside which a LoRA was imported: ``unchanged``, no work; as
    another collection's or as those of a SKU that
    is gone: taken over without training. Once the collection that the card names serves a
    SKU, every other one drops it. Safe to kill: the SKU at work resumes from its last
    checkpoint, the ones before it are committed.

    Args:
        home: where photos, index and versions are.
        skus: which; default every one that waits.
        progress: advanced at every step.
        on_photo_set: gets the photos of each SKU as they were read, once, before it is learned.
        force: train what is current too, an imported LoRA among it.

    Raises:
        CatalogError: the index is empty, or does not know one of ``skus``.
        BaseModelError: the base model cannot be opened; nothing is written.
        ConfigurationError: a scene of learning.yaml is too long for the base, or its GPU has too
            little memory for a step; likewise.
    """
    rows = choose_rows(home.index.read(), skus)
    if rows:
        check_base_model(home.settings)
        check_scenes(home.settings, prompt_tokenizer(home.settings.base_model))
        require_memory(home.settings, "learn")
    run = _LearningRun(home, progress or SilentProgress(), on_photo_set, force)
    for row in rows:
        yield run.learn(row)


def choose_rows(index: Sequence[IndexRow], skus: Sequence[str] | None) -> list[IndexRow]:
    """The index rows to learn, first seen first.

    Raises:
        CatalogError: the index is empty, or does not know one of ``skus``.
    """
    if not index:
        raise CatalogError(
            "the index knows no SKU; expected at least one; run `catalog-pipeline index` first"
        )
    ordered = sorted(index, key=lambda row: (row.first_seen_utc, row.sku))
    if skus is None:
        waiting = (SkuStatus.NEW, SkuStatus.CHANGED, SkuStatus.FAILED)
        return [row for row in ordered if row.status in waiting]
    unknown = sorted(set(skus) - {row.sku for row in index})
    if unknown:
        raise CatalogError(
            f"the index does not know {', '.join(unknown)}; expected SKUs that "
            "`catalog-pipeline status` lists; run `catalog-pipeline index` after adding photos"
        )
    by_sku = {row.sku: row for row in ordered}
    return [by_sku[sku] for sku in dict.fromkeys(skus)]


@dataclass
class _LearningRun:
    """Models are loaded when the first SKU really needs training."""

    home: Home
    progress: ProgressSink
    on_photo_set: Callable[[PhotoSet], None] | None
    force: bool = False
    tools: LearningTools | None = None
    method: LifelongMethod | None = None

    def learn(self, row: IndexRow) -> LearnOutcome:
        """One SKU from photos to promoted version; failures of the SKU become an outcome."""
        started = time.monotonic()
        try:
            photo_set = self._photos(row.sku)
            if self.on_photo_set is not None:
                self.on_photo_set(photo_set)
            outcome = dropped_elsewhere(self.home, photo_set, self._commit(photo_set))
        except (ConflictError, LockTimeoutError, StorageFullError) as error:
            # The store's trouble, not the product's: its row stays as it is, and the next
            # run learns it.
            outcome = failed_outcome(row.sku, error)
        except CatalogPipelineError as error:
            reason = str(error)
            self.home.index.update(
                lambda rows: mark_failed(rows, row.sku, row.content_hash, reason)
            )
            outcome = failed_outcome(row.sku, error)
        else:
            learned = photo_set.content_hash
            self.home.index.update(lambda rows: mark_learned(rows, row.sku, learned))
        return replace(outcome, seconds=time.monotonic() - started)

    def _photos(self, sku: str) -> PhotoSet:
        """Those to learn ``sku`` from: all usable ones where it was learned from these."""
        catalog = self.home.settings.catalog
        usable = validate_photo_set(self.home, sku, spare=spare_photos(catalog))
        parent = self.home.adapters(usable.sku.collection).current()
        known = parent.concept(sku) if parent else None
        if parent and known and not self.force and self._is_current(parent, known, usable):
            return usable
        return told_of_shared(self.home, curate(usable, catalog))

    def _commit(self, photo_set: PhotoSet) -> LearnOutcome:
        """Train under the collection's lease and move its head by compare-and-swap."""
        store = self.home.adapters(photo_set.sku.collection)
        with store.lease(timeout_seconds=LEASE_WAIT_SECONDS) as lease:
            parent = store.current()
            known = parent.concept(photo_set.sku.sku) if parent else None
            if (
                known is not None
                and parent is not None
                and not self.force
                and self._is_current(parent, known, photo_set)
            ):
                renamed = _with_card(known, photo_set)
                if renamed != known:
                    version = publish_concept(
                        self.home, store, parent, renamed, dict(parent.parts), lease.fence
                    )
                    return _unchanged(renamed, version.version, "the card changed, the photos not")
                return _unchanged(known, parent.version, "already learned from these photos")
            if parent is not None:
                check_same_base(parent, base_model_hash(self.home.settings.base_model))
            parts = dict(parent.parts) if parent else {}
            sku = photo_set.sku.sku
            draft = self._draft(parent, photo_set)
            taken = None if self.force else find_learned(self.home, draft)
            if taken is not None:
                parts |= {name: store.write_part(data) for name, data in taken.parts.items()}
                version = publish_concept(
                    self.home, store, parent, taken.concept, parts, lease.fence
                )
                return LearnOutcome(
                    sku,
                    "learned",
                    version=version.version,
                    reason=f"as {taken.source}, not trained again",
                    metrics=taken.concept.metrics,
                    loss_curve=tuple(read_curve(store, version, sku)),
                )
            learned = self._train(store, parent, photo_set)
            version = commit_learned(self.home, store, parent, learned, lease.fence)
        replaced = "in place of what was imported" if known and known.imported_from else ""
        return learned_outcome(learned, version, replaced)

    def _is_current(self, parent: AdapterVersion, known: Concept, photo_set: PhotoSet) -> bool:
        """An imported one is, whatever the settings of learning: they have not made it."""
        if known.imported_from:
            base = base_model_hash(self.home.settings.base_model)
            settled = parent.base_model_hash == base
        else:
            settled = known.config_hash == self._config()
        return settled and known.photos_hash == photos_hash(photo_set)

    def _config(self) -> str:
        settings = self.home.settings
        return concept_config_hash(settings.learning, base_identity(settings.base_model), ENCODER)

    def _draft(self, parent: AdapterVersion | None, photo_set: PhotoSet) -> Concept:
        tokens = self.home.settings.learning.adapter.tokens_per_concept
        photos = photos_hash(photo_set)
        return draft_concept(parent, photo_set.sku, tokens, photos, self._config())

    def _train(
        self, store: AdapterStore, parent: AdapterVersion | None, photo_set: PhotoSet
    ) -> LearnedPart:
        from catalog_pipeline.workflows.learn.task_runner import TaskRunner

        settings, objects = self.home.settings, self.home.objects
        check_class_noun(photo_set.sku, settings, prompt_tokenizer(settings.base_model))
        if self.tools is None or self.method is None:
            self.tools = open_tools(settings)
            self.method = open_method(self.tools, settings.learning, objects)
        runner = TaskRunner(settings, objects, store, self.tools, self.method, self.progress)
        return runner.run(parent, photo_set, self._draft(parent, photo_set))


def _with_card(known: Concept, photo_set: PhotoSet) -> Concept:
    card = photo_set.sku
    return replace(known, name=card.name, category=card.category)


def failed_outcome(sku: str, error: CatalogPipelineError) -> LearnOutcome:
    """What became of ``sku``, with what the quality gate saw of it where that refused it."""
    if isinstance(error, QualityGateError):
        return LearnOutcome(
            sku,
            "failed",
            reason=str(error),
            metrics=error.figures,
            contact_sheet_png=error.picture_png,
        )
    return LearnOutcome(sku, "failed", reason=str(error))


def _unchanged(concept: Concept, version: str, reason: str) -> LearnOutcome:
    return LearnOutcome(
        concept.sku, "unchanged", version=version, reason=reason, metrics=concept.metrics
    )
