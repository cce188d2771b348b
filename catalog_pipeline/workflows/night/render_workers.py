"""Rendering by workers: a share of a night is an item, and its worker stages what it makes.

Only counts travel back: pictures and rows go from the worker to the object store, as in a
night without workers, and publishing reads them there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import ceil

from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.models import open_sampler
from catalog_pipeline.workflows.night.picture_scores import shipped_judge
from catalog_pipeline.workflows.night.render_batches import (
    NightCounts,
    NightRun,
    Task,
    group_tasks,
    opened_together,
)
from catalog_pipeline.workflows.progress import ProgressSink
from catalog_pipeline.workflows.workers import Crew


@dataclass(frozen=True)
class Share:
    """Neighbours of a night, and the rows that are known of them."""

    name: str
    day: date
    plan_hash: str
    tasks: tuple[Task, ...]
    known: Mapping[str, ArchiveRow]


class RenderWork:
    """In a worker: a :class:`NightRun`, whose models stay loaded between the shares."""

    def __init__(self, settings: Settings) -> None:
        self._home = open_home(settings)
        self._run: NightRun | None = None

    def do(self, share: Share, progress: ProgressSink) -> NightCounts:
        """Render a share and stage its rows."""
        if self._run is None:
            self._run = NightRun(
                home=self._home,
                day=share.day,
                plan_hash=share.plan_hash,
                known=share.known,
                open_sampler=open_sampler,
                open_judge=shipped_judge if self._home.settings.generation.quality.gate else None,
                advance=lambda count, note: progress.advance(share.name, count, note),
            )
        run = self._run
        run.known, run.counts = share.known, NightCounts()
        run.render(share.tasks)
        return run.counts


def render_by_workers(
    run: NightRun, tasks: Sequence[Task], progress: ProgressSink, name: str
) -> None:
    """What ``run.render(tasks)`` would make, by the workers of ``execution.yaml``."""
    home = run.home
    crew: Crew[Share, NightCounts] = Crew(
        home.written,
        home.settings.execution.images,
        RenderWork,
        progress,
        again=lambda share: _left(home, share),
        lost=_lost,
    )
    for counts in crew.results(_shares(run, tasks, name)):
        run.counts.add(counts)


def _shares(run: NightRun, tasks: Sequence[Task], name: str) -> list[Share]:
    """Whole batches of neighbours: small enough that every worker gets some."""
    settings = run.home.settings
    batch, workers = settings.generation.batch_size, settings.execution.images.at_once
    even = ceil(len(tasks) / (batch * workers))
    size = batch * min(settings.execution.batches_per_share, even)
    shares = []
    for group in group_tasks(tasks, opened_together([task.job for task in tasks])):
        for start in range(0, len(group), size):
            part = tuple(group[start : start + size])
            ids = [task.job.job_id for task in part]
            known = {job_id: run.known[job_id] for job_id in ids if job_id in run.known}
            shares.append(Share(name, run.day, run.plan_hash, part, known))
    return shares


def _left(home: Home, share: Share) -> Share | None:
    """What a worker that died had not staged."""
    staged = {row.image_id: row for row in home.archive.staged(share.day)}
    known = share.known
    left = [
        task
        for task in share.tasks
        if (row := staged.get(task.job.job_id)) is None or row == known.get(task.job.job_id)
    ]
    return replace(share, tasks=tuple(left)) if left else None


def _lost(share: Share, reason: str) -> NightCounts:
    return NightCounts(failures={task.job.job_id: reason for task in share.tasks})
