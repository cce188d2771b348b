"""The loop of a night: batches are sampled, judged, tried again, stored and staged.

A picture that is good enough is stored and staged before another attempt at its
neighbours starts, so that an interruption costs unfinished pictures only. Attempts that
wait are gathered over batches until they fill one: the sampler pads short batches.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from catalog_pipeline.errors import GenerationError, ObjectNotFoundError
from catalog_pipeline.generation.anchored import output_size, pixel_box, real_pixels
from catalog_pipeline.records import (
    AdapterVersion,
    ArchiveRow,
    Concept,
    Cutout,
    Pixels,
    RenderJob,
    Source,
    concept_part,
    sources_of,
)
from catalog_pipeline.stores.columns import MANIFEST_SCHEMA_VERSION
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import concepts_of, drawn_by
from catalog_pipeline.workflows.night.anchor_cutouts import CutoutBook
from catalog_pipeline.workflows.night.picture_gate import (
    Attempt,
    attempt_job,
    attempt_strength,
    found_first,
    rank,
    why_failed,
)
from catalog_pipeline.workflows.night.picture_scores import OpenJudge, PictureScorer

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder

_log = logging.getLogger(__name__)


class Sampler(Protocol):
    """What renders jobs: :class:`generation.SceneSampler`."""

    def render(
        self,
        jobs: Sequence[RenderJob],
        concepts: Mapping[str, Concept],
        *,
        strength: float = 1.0,
        cutouts: Mapping[str, Cutout] = MappingProxyType({}),
    ) -> list[Pixels]:
        """One picture for each job; all jobs of one size, steps, guidance and mode.

        ``strength`` multiplies how hard attention is guided; ``cutouts`` has the products
        of the jobs' photos by SHA-256.
        """
        ...


OpenSampler = Callable[[Home, Mapping[str, AdapterVersion]], Sampler]
"""``(home, SKU -> the version that draws it)`` -> their sampler."""


@dataclass
class Task:
    """A job whose picture is missing, and how far its attempts are.

    ``attempt`` is the number of the next one, ``last`` of the last one; ``held`` is the
    job's row in quarantine where one is to be tried again. ``best`` is the best attempt
    so far, ``seconds`` the share of all of them in the time of their batches, ``first_found``
    the ``found_first/<sku>`` scores of the job's first one.
    """

    job: RenderJob
    attempt: int
    last: int
    held: ArchiveRow | None = None
    best: Attempt | None = None
    seconds: float = 0.0
    first_found: Mapping[str, float] = field(default_factory=dict)

    def take(self, made: Attempt) -> bool:
        """Note an attempt; whether the job is settled with it."""
        scores = made.judgement.scores
        if not self.first_found:
            self.first_found = found_first(scores)
        good = made.judgement.verdict != "failed"
        if good or self.best is None or rank(scores) > rank(self.best.judgement.scores):
            self.best = made
        self.attempt = made.number + 1
        return good or made.number >= self.last


@dataclass(frozen=True)
class _Opened:
    """What renders and measures the products of ``key``: one version, or several together."""

    key: tuple[Source, ...]
    sampler: Sampler
    drawers: Mapping[str, AdapterVersion]
    concepts: Mapping[str, Concept]
    scorer: PictureScorer


@dataclass
class NightCounts:
    """What came of jobs.

    ``attempts`` counts the pictures made, ``rendered`` those kept and ``busy_seconds`` their time,
    the latter two by the mode that was planned; ``failures`` maps a job of which none could be
    made to the reason.
    """

    rendered: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    busy_seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, other: NightCounts) -> None:
        """Take in what came of other jobs."""
        self.rendered += other.rendered
        self.attempts += other.attempts
        self.failures |= other.failures
        for mode, seconds in other.busy_seconds.items():
            self.took(mode, seconds)

    def took(self, mode: str, seconds: float) -> None:
        """Note the time of a batch."""
        self.busy_seconds[mode] = self.busy_seconds.get(mode, 0.0) + seconds


@dataclass
class NightRun:
    """One rendering run: the opened models, and what came of the jobs."""

    home: Home
    day: date
    plan_hash: str
    known: Mapping[str, ArchiveRow]
    open_sampler: OpenSampler
    open_judge: OpenJudge | None
    advance: Callable[[int, str], None]
    encoder: FeatureEncoder | None = None
    counts: NightCounts = field(default_factory=NightCounts)
    _sources: dict[str, Source] = field(default_factory=dict)
    _together: Mapping[Source, tuple[Source, ...]] = field(default_factory=dict)
    _opened: _Opened | None = None

    @cached_property
    def cutouts(self) -> CutoutBook:
        """The products of the photos that stand in pictures."""
        return CutoutBook(self.home)

    def render(self, tasks: Sequence[Task]) -> None:
        """Make a picture of every task; raises what the stores raise, never the model's errors."""
        size = self.home.settings.generation.batch_size
        for task in tasks:
            self._sources |= sources_of(task.job)
        self._together = opened_together([task.job for task in tasks])
        for group in group_tasks(tasks, self._together):
            waiting: dict[int, list[Task]] = {}
            for task in group:
                waiting.setdefault(task.attempt, []).append(task)
            while waiting:
                number = _next_attempt(waiting, size)
                batch, rest = waiting[number][:size], waiting[number][size:]
                waiting[number] = rest
                for task in self._try(batch):
                    waiting.setdefault(task.attempt, []).append(task)
                waiting = {attempt: left for attempt, left in waiting.items() if left}

    def _try(self, batch: Sequence[Task]) -> list[Task]:
        """Make the next attempt of ``batch``, keep what is settled; returns the others."""
        job = batch[0].job
        opened = self._open(self._together[Source(job.collection, job.adapter_version)])
        started = time.monotonic()
        try:
            jobs = [self._as_attempted(task) for task in batch]
            alike = len({job.mode for job in jobs}) == 1
            cutouts = self.cutouts.of(jobs)
            made = self._sample(opened, jobs, cutouts, batch[0].attempt) if alike else []
        except Exception as error:
            # Whatever a model raises on one batch must not cost the rest of the night.
            reason = f"{type(error).__name__}: {error}"
        else:
            if alike:
                return self._settle(batch, jobs, made, cutouts, opened, started)
            # Some have lost their photos; a sampler takes jobs of one mode.
            return [left for task in batch for left in self._try([task])]
        # Outside the handler, so that the failed batch's tensors are free again.
        if len(batch) > 1:
            _log.warning("a batch of %d failed (%s); trying one by one", len(batch), reason)
            return [left for task in batch for left in self._try([task])]
        return self._give_up(batch[0], opened, reason)

    def _settle(
        self,
        batch: Sequence[Task],
        jobs: Sequence[RenderJob],
        pictures: Sequence[Pixels],
        cutouts: Mapping[str, Cutout],
        opened: _Opened,
        started: float,
    ) -> list[Task]:
        judgements = opened.scorer.judge(jobs, pictures, cutouts)
        share = (time.monotonic() - started) / len(batch)
        settled: list[Task] = []
        left: list[Task] = []
        for task, job, picture, judgement in zip(batch, jobs, pictures, judgements, strict=True):
            real = real_pixels(job, cutouts)
            made = Attempt(task.attempt, job, picture, judgement, real)
            task.seconds += share
            (settled if task.take(made) else left).append(task)
        self.counts.attempts += len(batch)
        self._keep(settled, opened)
        self.counts.took(batch[0].job.mode, time.monotonic() - started)
        self.advance(len(settled), f"{len(left)} to be tried again" if left else "")
        return left

    def _give_up(self, task: Task, opened: _Opened, reason: str) -> list[Task]:
        """The model fails on this job alone: what was made of it before is kept."""
        _log.warning("job %s failed: %s", task.job.job_id, reason)
        if task.best is None:
            self.counts.failures[task.job.job_id] = reason
        else:
            self._keep([task], opened)
        self.advance(1, "failed")
        return []

    def _keep(self, tasks: Sequence[Task], opened: _Opened) -> None:
        """Store the pictures, then stage their rows under a name made of the job ids."""
        if not tasks:
            return
        rows = []
        for task in tasks:
            assert task.best is not None
            made = moment_after(self.known.get(task.job.job_id))
            if task.held is not None and _is_better(task.held, task.best):
                rows.append(replace(task.held, attempts=task.attempt - 1, created_utc=made))
                continue
            row = _make_row(task, opened.drawers, made)
            marked = self.home.marks.mark(task.best.picture, row)
            path, sha256 = self.home.archive.put_image(marked.png, task.best.job.skus)
            row = replace(row, path=path, sha256=sha256, pixels_sha256=marked.pixels_sha256)
            rows.append(replace(row, plan_hash=self.plan_hash))
        names = "\n".join(task.job.job_id for task in tasks)
        shard = hashlib.sha256(names.encode()).hexdigest()[:32]
        self.home.archive.stage(self.day, shard, rows)
        self.counts.rendered.update(task.job.mode for task in tasks)

    def _as_attempted(self, task: Task) -> RenderJob:
        """The job as the next attempt makes it; without photos where these are gone."""
        quality = self.home.settings.generation.quality
        return self.cutouts.or_learned(attempt_job(task.job, quality, task.attempt))

    def _sample(
        self,
        opened: _Opened,
        jobs: Sequence[RenderJob],
        cutouts: Mapping[str, Cutout],
        number: int,
    ) -> list[Pixels]:
        strength = attempt_strength(self.home.settings.generation.quality, number)
        pictures = opened.sampler.render(jobs, opened.concepts, strength=strength, cutouts=cutouts)
        shapes = [picture.shape for picture in pictures]
        expected = [(*output_size(job)[::-1], 3) for job in jobs]
        if shapes != expected:
            raise GenerationError(
                f"the sampler gave pictures of shape {shapes} for {len(jobs)} jobs, "
                f"expected {expected}"
            )
        return pictures

    def _open(self, key: tuple[Source, ...]) -> _Opened:
        """The tools of versions that share pictures; only the last opened are held in memory."""
        if self._opened is None or self._opened.key != key:
            self._opened = None
            records = {source: self._read_version(source) for source in key}
            drawers = drawn_by(*records.values())
            # A product that two of them know is drawn by the one that the plan names.
            drawers |= {s: records[source] for s, source in self._sources.items() if source in key}
            sampler = self.open_sampler(self.home, drawers)
            quality = self.home.settings.generation.quality
            encoder, judge = self._open_encoder, self.open_judge
            scorer = PictureScorer(self.home, drawers, encoder, judge, quality)
            self._opened = _Opened(key, sampler, drawers, concepts_of(drawers), scorer)
        return self._opened

    def _read_version(self, source: Source) -> AdapterVersion:
        try:
            return self.home.adapters(source.collection).read(source.adapter_version)
        except ObjectNotFoundError as error:
            raise GenerationError(
                f"the plan of {self.day} draws from version {source.adapter_version} of "
                f"collection {source.collection!r}, which is not there ({error}); plan the night "
                f"again (catalog-pipeline generate --day {self.day})"
            ) from error

    def _open_encoder(self) -> FeatureEncoder:
        if self.encoder is None:
            from catalog_pipeline.evaluation.features import open_encoder

            self.encoder = open_encoder()
        return self.encoder


def moment_after(replaced: ArchiveRow | None) -> datetime:
    """Now, but never before the row that is replaced: of two rows of a picture the later counts.

    A clock that was set back would let the row of a lost picture win over its successor.
    """
    now = datetime.now(UTC)
    if replaced is None:
        return now
    return max(now, replaced.created_utc + timedelta(microseconds=1))


def _is_better(held: ArchiveRow, best: Attempt) -> bool:
    return best.judgement.verdict == "failed" and rank(held.scores) >= rank(best.judgement.scores)


def _next_attempt(waiting: Mapping[int, Sequence[Task]], size: int) -> int:
    """The latest attempt that fills a batch, else the earliest that is waiting.

    Full batches of later attempts go first, so that few pictures wait in memory; short
    ones wait until no earlier attempt can add to them.
    """
    full = [number for number, tasks in waiting.items() if len(tasks) >= size]
    return max(full) if full else min(waiting)


def opened_together(jobs: Sequence[RenderJob]) -> dict[Source, tuple[Source, ...]]:
    """Each version of ``jobs`` with all that it shares pictures with, itself included, sorted.

    Those that two versions share with a third are opened with it too.
    """
    together: dict[Source, tuple[Source, ...]] = {}
    for job in jobs:
        named = set(sources_of(job).values())
        joined = tuple(sorted(named.union(*(together.get(source, ()) for source in named))))
        together |= dict.fromkeys(joined, joined)
    return together


def group_tasks(
    tasks: Sequence[Task], together: Mapping[Source, tuple[Source, ...]]
) -> list[list[Task]]:
    """Tasks that one call of a sampler can take, the plan's order kept within.

    What is opened together follows one another, so that each is opened once.
    """
    groups: dict[tuple[object, ...], list[Task]] = {}
    for task in tasks:
        job = task.job
        shape = (job.width, job.height, job.steps, job.guidance, job.sampler, job.negative_prompt)
        versions = together[Source(job.collection, job.adapter_version)]
        made = (job.mode, job.strength, job.backdrop_steps, job.output_scale)
        key = (versions, len(job.regions), *shape, job.attention, *made)
        groups.setdefault(key, []).append(task)
    opened: dict[tuple[object, ...], int] = {}
    for group_key in groups:
        opened.setdefault(group_key[:1], len(opened))
    return [group for _, group in sorted(groups.items(), key=lambda item: opened[item[0][:1]])]


def _make_row(
    task: Task, drawers: Mapping[str, AdapterVersion], created_utc: datetime
) -> ArchiveRow:
    """The row of a picture that is not stored yet."""
    best = task.best
    assert best is not None
    job = best.job
    version = drawers[job.skus[0]]
    width, height = output_size(job)
    row = ArchiveRow(
        image_id=job.job_id,
        path="",
        sha256="",
        day=job.day,
        job_id=job.job_id,
        prompt=job.prompt,
        skus=job.skus,
        layout=job.layout,
        seed=job.seed,
        sampler=job.sampler,
        steps=job.steps,
        guidance=job.guidance,
        width=width,
        height=height,
        base_model_hash=version.base_model_hash,
        collection=job.collection,
        adapter_version=version.version,
        memory_version=version.memory_version,
        scores={**best.judgement.scores, **task.first_found},
        superseded=False,
        created_utc=created_utc,
        schema_version=MANIFEST_SCHEMA_VERSION,
        attempts=task.attempt - 1,
        verdict=best.judgement.verdict,
        mode=job.mode,
        mode_reason=job.mode_reason,
        photos={anchor.sku: anchor.sha256 for anchor in job.anchors},
        boxes={anchor.sku: pixel_box(anchor.box, width, height) for anchor in job.anchors},
        strength=job.strength,
        real_pixels=best.real_pixels,
        policy=job.policy,
        negative_prompt=job.negative_prompt,
        attention=json.dumps(asdict(job.attention), sort_keys=True),
        render_seconds=round(task.seconds, 3),
        concepts={sku: drawers[sku].parts[concept_part(sku)] for sku in job.skus},
        sources=job.sources,
    )
    return replace(row, reason=why_failed(row)) if row.verdict == "failed" else row
