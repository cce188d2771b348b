"""What learning would do now, SKU by SKU. Writes nothing and loads no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from catalog_pipeline.errors import CatalogPipelineError
from catalog_pipeline.records import IndexRow, LearnOutcome
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.commit import is_current, learning_config
from catalog_pipeline.workflows.learn.learn_concepts import choose_rows
from catalog_pipeline.workflows.learn.learning_inputs import draft_concept, photos_hash
from catalog_pipeline.workflows.learn.taken_over import find_learned

WOULD_LEARN = "would learn"
WOULD_FAIL = "would fail"


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
    reason = f"{how}, {home.settings.learning.steps} steps; {photos}"
    return LearnOutcome(row.sku, WOULD_LEARN, reason=reason)
