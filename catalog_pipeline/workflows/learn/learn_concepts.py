"""Learn SKUs one after the other, each committed before the next begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from catalog_pipeline.errors import (
    CatalogError,
)
from catalog_pipeline.records import (
    IndexRow,
    LearnOutcome,
    PhotoSet,
    SkuStatus,
)
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.learn_workers import learn_by_workers
from catalog_pipeline.workflows.learn.learning_run import LearningRun
from catalog_pipeline.workflows.learn.privacy import check_privacy
from catalog_pipeline.workflows.learn.prompt_lengths import check_scenes
from catalog_pipeline.workflows.models import (
    check_base_model,
    prompt_tokenizer,
    require_memory,
)
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress
from catalog_pipeline.workflows.scene_words import require_read

if TYPE_CHECKING:
    pass


def learn_concepts(
    home: Home,
    skus: Sequence[str] | None = None,
    *,
    progress: ProgressSink | None = None,
    on_photo_set: Callable[[PhotoSet], None] | None = None,
    force: bool = False,
    everything: bool = False,
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
        everything: without ``skus``, every product on sale: those that were learned under other
            settings are learned anew.

    Raises:
        CatalogError: the index is empty, or does not know one of ``skus``.
        BaseModelError: the base model cannot be opened; nothing is written.
        ConfigurationError: a scene of learning.yaml is too long for the base, its GPU has too
            little memory for a step, or an epsilon is asked for; likewise.
    """
    rows = choose_rows(home.index.read(), skus, everything=everything)
    if rows:
        check_privacy(home.settings, rows)
        check_base_model(home.settings)
        require_read(home.written, home.words, learning=True)
        check_scenes(home.settings, prompt_tokenizer(home.settings.base_model))
        require_memory(home.settings, "learn")
    run = LearningRun(home, progress or SilentProgress(), on_photo_set, force)
    if home.settings.execution.engine == "ray":
        yield from learn_by_workers(run, rows)
    else:
        yield from map(run.learn, rows)


def choose_rows(
    index: Sequence[IndexRow], skus: Sequence[str] | None, *, everything: bool = False
) -> list[IndexRow]:
    """The index rows to learn, first seen first; ``everything`` is all that are on sale.

    Raises:
        CatalogError: the index is empty, or does not know one of ``skus``.
    """
    if not index:
        raise CatalogError(
            "the index knows no SKU; expected at least one; run `catalog-pipeline index` first"
        )
    ordered = sorted(index, key=lambda row: (row.first_seen_utc, row.sku))
    if skus is None:
        waiting = [SkuStatus.NEW, SkuStatus.CHANGED, SkuStatus.FAILED]
        waiting += [SkuStatus.LEARNED] if everything else []
        return [row for row in ordered if row.status in waiting]
    unknown = sorted(set(skus) - {row.sku for row in index})
    if unknown:
        raise CatalogError(
            f"the index does not know {', '.join(unknown)}; expected SKUs that "
            "`catalog-pipeline products` lists; run `catalog-pipeline index` after adding photos"
        )
    by_sku = {row.sku: row for row in ordered}
    return [by_sku[sku] for sku in dict.fromkeys(skus)]
