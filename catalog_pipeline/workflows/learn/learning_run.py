"""Products learned one after the other, with models that are loaded when first needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from catalog_pipeline.catalog.index import mark_failed
from catalog_pipeline.errors import (
    AuditError,
    CatalogPipelineError,
    ConflictError,
    LockTimeoutError,
    QualityGateError,
    StorageFullError,
    UnsettledError,
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
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.attempts import (
    has_learned,
    log_failed,
    log_learned,
    note_learned,
    note_refusal,
)
from catalog_pipeline.workflows.learn.commit import (
    commit_learned,
    commit_taken,
    dropped_elsewhere,
    is_current,
    learned_outcome,
    learning_config,
    note_promotion,
    publish_concept,
)
from catalog_pipeline.workflows.learn.curation import curate, spare_photos, told_of_shared
from catalog_pipeline.workflows.learn.head_turn import HeadTurn, head_turn
from catalog_pipeline.workflows.learn.learning_inputs import (
    LearningTools,
    draft_concept,
    open_method,
    open_tools,
    photos_hash,
)
from catalog_pipeline.workflows.learn.prompt_lengths import check_class_noun
from catalog_pipeline.workflows.learn.taken_over import TakenOver, find_learned
from catalog_pipeline.workflows.models import (
    prompt_tokenizer,
)
from catalog_pipeline.workflows.progress import ProgressSink

if TYPE_CHECKING:
    from catalog_pipeline.learning.methods.method import LifelongMethod
    from catalog_pipeline.workflows.learn.task_runner import LearnedPart


_NOT_ITS_FAULT = (ConflictError, LockTimeoutError, StorageFullError, AuditError, UnsettledError)


@dataclass
class LearningRun:
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
        photo_set: PhotoSet | None = None
        try:
            photo_set = self._photos(row.sku)
            self.home.words.keep()
            if self.on_photo_set is not None:
                self.on_photo_set(photo_set)
            outcome, version = self._commit(row, photo_set)
            outcome = dropped_elsewhere(self.home, photo_set, outcome)
            self._note(row, photo_set, version, outcome, time.monotonic() - started)
        except _NOT_ITS_FAULT as error:
            # The store's trouble, or an upload that has not ended: the product's row stays as it
            # is, and a later run learns it.
            outcome = failed_outcome(row.sku, error)
        except CatalogPipelineError as error:
            outcome = self._fail(row, photo_set, error, time.monotonic() - started)
        return replace(outcome, seconds=time.monotonic() - started)

    def _fail(
        self,
        row: IndexRow,
        photo_set: PhotoSet | None,
        error: CatalogPipelineError,
        seconds: float,
    ) -> LearnOutcome:
        """Mark the SKU as failed, in the audit log first where its candidate was refused."""
        try:
            if isinstance(error, QualityGateError):
                note_refusal(self.home, row.sku, row.collection)
        except AuditError as refused:  # not marked: a later run learns it again, and notes it
            return failed_outcome(row.sku, refused)
        outcome = failed_outcome(row.sku, error)
        log_failed(self.home, row, photo_set, outcome, seconds)
        reason, photos = str(error), photo_set.uses if photo_set else ()
        self.home.index.update(
            lambda rows: mark_failed(rows, row.sku, row.content_hash, reason, photos=photos)
        )
        return outcome

    def _photos(self, sku: str) -> PhotoSet:
        """Those to learn ``sku`` from: all usable ones where it was learned from these."""
        catalog = self.home.settings.catalog
        usable = validate_photo_set(self.home, sku, spare=spare_photos(catalog))
        if self._is_settled(self.home.adapters(usable.sku.collection).current(), usable):
            return usable
        return told_of_shared(self.home, curate(usable, catalog))

    def _commit(
        self, row: IndexRow, photo_set: PhotoSet
    ) -> tuple[LearnOutcome, AdapterVersion | None]:
        """Train under the SKU's claim, and move the head by compare-and-swap in turn with others.

        Returns:
            The outcome, and the version that learned the SKU: the one just published, or the head
            where a crash has kept that from log and index; ``None`` where nothing is to be noted.
        """
        card = photo_set.sku
        side_by_side = not self.home.settings.learning.adapter.one_for_all
        with head_turn(self.home, card.collection, card.sku, side_by_side=side_by_side) as turn:
            self._require_known(row)
            if self._is_settled(turn.seen, photo_set):
                return self._settle(row, photo_set, turn)
            store, seen = turn.store, turn.seen
            taken = None if self.force else find_learned(self.home, self._draft(seen, photo_set))
            if taken is not None:
                with turn.take() as (parent, fence):
                    version = commit_taken(self.home, store, parent, taken, fence)
                return _taken_over(store, version, taken), version
            learned = self._train(store, seen, photo_set)
            with turn.take() as (parent, fence):
                version = commit_learned(self.home, store, parent, learned, fence)
        imported = turn.known is not None and turn.known.imported_from
        replaced = "in place of what was imported" if imported else ""
        return learned_outcome(learned, version, replaced), version

    def _require_known(self, row: IndexRow) -> None:
        """ConflictError where the SKU went while it waited for its claim: a removal held that."""
        now = next((each for each in self.home.index.read() if each.sku == row.sku), None)
        retired = now is not None and now.status is SkuStatus.RETIRED
        if now is None or (retired and row.status is not SkuStatus.RETIRED):
            raise ConflictError(
                f"{row.sku} was removed or retired while it waited to be learned; nothing was "
                "learned; if it is to come back, run `catalog-pipeline index`, then `learn`"
            )

    def _is_settled(self, seen: AdapterVersion | None, photo_set: PhotoSet) -> bool:
        """Whether the head holds what learning ``photo_set`` now would give."""
        known = seen.concept(photo_set.sku.sku) if seen else None
        if self.force or seen is None or known is None:
            return False
        return is_current(self.home.settings, seen, known, photo_set)

    def _settle(
        self, row: IndexRow, photo_set: PhotoSet, turn: HeadTurn
    ) -> tuple[LearnOutcome, AdapterVersion | None]:
        """Nothing to train: at most the card's new words are published."""
        seen, known = turn.seen, turn.known
        assert seen is not None
        assert known is not None
        renamed = _with_card(known, photo_set)
        if renamed != known:
            with turn.take() as (parent, fence):
                assert parent is not None
                parts = dict(parent.parts)
                version = publish_concept(self.home, turn.store, parent, renamed, parts, fence)
            return _unchanged(renamed, version.version, "the card changed, the photos not"), None
        noted = row.learned_hash == photo_set.content_hash
        missed = None if noted or not has_learned(turn.store, seen, known.sku) else seen
        if missed is not None:  # a crash, or the audit log's store, came between
            note_promotion(self.home, missed, known.sku)
        return _unchanged(known, seen.version, "already learned from these photos"), missed

    def _note(
        self,
        row: IndexRow,
        photo_set: PhotoSet,
        version: AdapterVersion | None,
        outcome: LearnOutcome,
        seconds: float,
    ) -> None:
        """Log and index the outcome; ``version`` is the one that learned the SKU, if any did."""
        if version is not None:
            log_learned(self.home, photo_set, version, reason=outcome.reason, seconds=seconds)
        note_learned(self.home, row, photo_set, version)

    def _draft(self, parent: AdapterVersion | None, photo_set: PhotoSet) -> Concept:
        tokens = self.home.settings.learning.adapter.tokens_per_concept
        config = learning_config(self.home.settings)
        return draft_concept(parent, photo_set.sku, tokens, photos_hash(photo_set), config)

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


def _taken_over(store: AdapterStore, version: AdapterVersion, taken: TakenOver) -> LearnOutcome:
    sku = taken.concept.sku
    return LearnOutcome(
        sku,
        "learned",
        version=version.version,
        reason=f"as {taken.source}, not trained again",
        metrics=taken.concept.metrics,
        loss_curve=tuple(read_curve(store, version, sku)),
    )


def _unchanged(concept: Concept, version: str, reason: str) -> LearnOutcome:
    return LearnOutcome(
        concept.sku, "unchanged", version=version, reason=reason, metrics=concept.metrics
    )
