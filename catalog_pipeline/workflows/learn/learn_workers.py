"""Learning by workers: a SKU is an item, and a worker learns one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from catalog_pipeline.records import IndexRow, LearnOutcome, PhotoSet
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.audit_log import Signature
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learning_run import LearningRun
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress
from catalog_pipeline.workflows.workers import Crew


@dataclass(frozen=True)
class _Item:
    row: IndexRow
    force: bool
    wants_photos: bool
    signed: Signature


@dataclass(frozen=True)
class _Learned:
    outcome: LearnOutcome
    photo_set: PhotoSet | None


class LearnWork:
    """In a worker: a :class:`LearningRun`, whose models stay loaded between the SKUs."""

    def __init__(self, settings: Settings) -> None:
        self._run = LearningRun(open_home(settings), SilentProgress(), None)

    def do(self, item: _Item, progress: ProgressSink) -> _Learned:
        """Learn one SKU; its photos travel back where somebody wants to see them."""
        seen: list[PhotoSet] = []
        run = self._run
        run.progress, run.on_photo_set, run.force = progress, seen.append, item.force
        run.home.audit.signed = item.signed
        outcome = run.learn(item.row)
        return _Learned(outcome, seen[0] if seen and item.wants_photos else None)


def learn_by_workers(run: LearningRun, rows: Sequence[IndexRow]) -> Iterator[LearnOutcome]:
    """What ``run`` would give of ``rows``, in the order in which they are done.

    A product in a shared slot goes on from where the last one ended: these have one worker.
    """
    home = run.home
    size = home.settings.execution.learning
    if home.settings.learning.adapter.one_for_all:
        size = size.model_copy(update={"at_once": 1})
    crew: Crew[_Item, _Learned] = Crew(
        home.written, size, LearnWork, run.progress, again=lambda item: item, lost=_lost
    )
    wanted, signed = run.on_photo_set is not None, home.audit.signed
    items = [_Item(row, run.force, wanted, signed) for row in rows]
    for learned in crew.results(items):
        if learned.photo_set is not None and run.on_photo_set is not None:
            run.on_photo_set(learned.photo_set)
        yield learned.outcome


def _lost(item: _Item, reason: str) -> _Learned:
    """No fault of the product, as far as anybody knows: its row stays as it is."""
    return _Learned(LearnOutcome(item.row.sku, "failed", reason=reason), None)
