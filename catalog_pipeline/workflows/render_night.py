"""Render what is still missing of a night's plan, batch by batch.

A batch is finished once its pictures are stored and its rows staged; whatever
happens later, it is not rendered again. The order within a batch is: sample, score,
store the PNGs, stage the rows under a name made of the batch's job ids.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from catalog_pipeline.errors import (
    GenerationError,
    IntegrityError,
    ObjectNotFoundError,
)
from catalog_pipeline.records import (
    AdapterVersion,
    ArchiveRow,
    Concept,
    Pixels,
    RenderJob,
    RenderReport,
)
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.schemas import SCHEMA_VERSION
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.night_sheet import SHEET_IMAGES, draw_night_sheet
from catalog_pipeline.workflows.picture_scores import PictureScorer
from catalog_pipeline.workflows.plan_night import find_plan, plan_night, report_key
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder

_log = logging.getLogger(__name__)


class Sampler(Protocol):
    """What renders jobs of one collection and version: :class:`generation.SceneSampler`."""

    def render(self, jobs: Sequence[RenderJob], concepts: Mapping[str, Concept]) -> list[Pixels]:
        """One picture for each job; all jobs of one size, steps and guidance."""
        ...


OpenSampler = Callable[[Settings, str, str | None], tuple[Sampler, AdapterVersion]]
"""``(settings, collection, version)`` -> the sampler of that version and its record."""


def render_night(
    settings: Settings,
    day: date,
    *,
    progress: ProgressSink | None = None,
    open_sampler: OpenSampler | None = None,
    encoder: FeatureEncoder | None = None,
) -> RenderReport:
    """Render every job of the night's plan whose picture is not there yet, and stage its row.

    A day without a plan is planned first. A job is done when a staged or published
    row names a picture that is stored and hashes to its name; everything else is
    rendered by the version that the plan names. A batch that fails is tried again
    job by job; jobs that fail alone are reported, and the others go on. Idempotent:
    a call with nothing missing opens no model and writes nothing. A crash loses the
    batch in work, never a finished one.

    Args:
        settings: where the home is, batch size, model.
        day: the night.
        progress: told of every batch.
        open_sampler: opens the model; default ``workflows.models.open_sampler``.
        encoder: measures the pictures; default the shipped image encoder.

    Raises:
        GenerationError: there is no plan and nothing to plan from.
        StoreError: a picture or its row cannot be stored.
    """
    started = time.monotonic()
    sink = progress or SilentProgress()
    home = open_home(settings)
    jobs = (find_plan(settings, day) or plan_night(settings, day)).jobs
    known = {row.image_id: row for row in (*home.archive.read_day(day), *home.archive.staged(day))}
    done = {
        job.job_id
        for job in jobs
        if job.job_id in known and _is_stored(home.archive, known[job.job_id])
    }
    missing = [job for job in jobs if job.job_id not in done]
    task = f"render {day.isoformat()}"
    sink.start(task, len(jobs))
    if done:
        sink.advance(task, len(done), "already there")
    run = _Run(settings, home, day, known, open_sampler, encoder)
    try:
        for batch in _batches(missing, settings.generation.batch_size):
            run.render(batch)
            sink.advance(task, len(batch))
    finally:
        sink.finish(task)
    if missing:
        _write_report(home, day, missing[0], run)
    staged = home.archive.staged(day)
    known.update((row.image_id, row) for row in staged)
    shown = [known[job.job_id] for job in jobs if job.job_id not in run.failures]
    return RenderReport(
        day=day,
        rows=tuple(staged),
        rendered=run.rendered,
        reused=len(done),
        failed=tuple(run.failures),
        seconds=time.monotonic() - started,
        contact_sheet_png=_draw_sheet(home.archive, shown[:SHEET_IMAGES]),
    )


@dataclass(frozen=True)
class _Opened:
    """What renders and measures one version; ``key`` is (collection, version)."""

    key: tuple[str, str]
    sampler: Sampler
    version: AdapterVersion
    scorer: PictureScorer


@dataclass
class _Run:
    """One rendering run: the opened models, and what came of the jobs."""

    settings: Settings
    home: Home
    day: date
    known: Mapping[str, ArchiveRow]
    open_sampler: OpenSampler | None
    encoder: FeatureEncoder | None
    rendered: int = 0
    busy_seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    _opened: _Opened | None = None

    def render(self, batch: Sequence[RenderJob]) -> None:
        """Render, score, store and stage ``batch``; jobs of one collection and version."""
        opened = self._open(batch[0].collection, batch[0].adapter_version)
        started = time.monotonic()
        try:
            pictures = _sample(opened, batch)
        except Exception as error:
            # Whatever a model raises on one batch must not cost the rest of the night.
            reason = f"{type(error).__name__}: {error}"
        else:
            self._keep(batch, pictures, opened)
            self.rendered += len(batch)
            self.busy_seconds += time.monotonic() - started
            return
        # Outside the handler, so that the failed batch's tensors are free again.
        if len(batch) > 1:
            _log.warning("a batch of %d failed (%s); trying one by one", len(batch), reason)
            for job in batch:
                self.render([job])
        else:
            _log.warning("job %s failed: %s", batch[0].job_id, reason)
            self.failures[batch[0].job_id] = reason

    def _keep(
        self, batch: Sequence[RenderJob], pictures: Sequence[Pixels], opened: _Opened
    ) -> None:
        from catalog_pipeline.evaluation.contact_sheet import encode_png

        scores = opened.scorer.score(batch, pictures)
        rows = []
        for job, picture, score in zip(batch, pictures, scores, strict=True):
            path, sha256 = self.home.archive.put_image(encode_png(picture))
            made = _moment_after(self.known.get(job.job_id))
            rows.append(_make_row(job, opened.version, path, sha256, score, made))
        names = "\n".join(job.job_id for job in batch)
        shard = hashlib.sha256(names.encode()).hexdigest()[:32]
        self.home.archive.stage(self.day, shard, rows)

    def _open(self, collection: str, version: str) -> _Opened:
        """The tools of a version; only the last one opened is held in memory."""
        if self._opened is None or self._opened.key != (collection, version):
            self._opened = None
            opener = self.open_sampler or _shipped_sampler()
            sampler, record = opener(self.settings, collection, version)
            scorer = PictureScorer(self.home.adapters(collection), record, self._open_encoder)
            self._opened = _Opened((collection, version), sampler, record, scorer)
        return self._opened

    def _open_encoder(self) -> FeatureEncoder:
        if self.encoder is None:
            from catalog_pipeline.evaluation.features import open_encoder

            self.encoder = open_encoder()
        return self.encoder


def _shipped_sampler() -> OpenSampler:
    from catalog_pipeline.workflows.models import open_sampler

    return open_sampler


def _is_stored(archive: ImageArchive, row: ArchiveRow) -> bool:
    try:
        archive.read_image(row.path)
    except (ObjectNotFoundError, IntegrityError):
        return False
    return True


def _batches(jobs: Sequence[RenderJob], size: int) -> list[list[RenderJob]]:
    """Jobs in batches that one call of a sampler can take, the plan's order kept within.

    Versions follow one another, so that each is opened once.
    """
    groups: dict[tuple[object, ...], list[RenderJob]] = {}
    for job in jobs:
        shape = (job.width, job.height, job.steps, job.guidance, job.sampler, job.negative_prompt)
        version = (job.collection, job.adapter_version)
        groups.setdefault((*version, len(job.regions), *shape), []).append(job)
    opened: dict[tuple[object, ...], int] = {}
    for key in groups:
        opened.setdefault(key[:2], len(opened))
    return [
        group[start : start + size]
        for key, group in sorted(groups.items(), key=lambda item: opened[item[0][:2]])
        for start in range(0, len(group), size)
    ]


def _sample(opened: _Opened, batch: Sequence[RenderJob]) -> list[Pixels]:
    concepts = {concept.sku: concept for concept in opened.version.concepts}
    pictures = opened.sampler.render(batch, concepts)
    shapes = [picture.shape for picture in pictures]
    expected = [(job.height, job.width, 3) for job in batch]
    if shapes != expected:
        raise GenerationError(
            f"the sampler gave pictures of shape {shapes} for {len(batch)} jobs, "
            f"expected {expected}"
        )
    return pictures


def _moment_after(replaced: ArchiveRow | None) -> datetime:
    """Now, but never before the row that is replaced: of two rows of a picture the later counts.

    A clock that was set back would let the row of a lost picture win over its successor.
    """
    now = datetime.now(UTC)
    if replaced is None:
        return now
    return max(now, replaced.created_utc + timedelta(microseconds=1))


def _make_row(
    job: RenderJob,
    version: AdapterVersion,
    path: str,
    sha256: str,
    scores: Mapping[str, float],
    created_utc: datetime,
) -> ArchiveRow:
    return ArchiveRow(
        image_id=job.job_id,
        path=path,
        sha256=sha256,
        day=job.day,
        job_id=job.job_id,
        prompt=job.prompt,
        skus=job.skus,
        layout=job.layout,
        seed=job.seed,
        sampler=job.sampler,
        steps=job.steps,
        guidance=job.guidance,
        width=job.width,
        height=job.height,
        base_model_hash=version.base_model_hash,
        collection=job.collection,
        adapter_version=version.version,
        memory_version=version.memory_version,
        scores=scores,
        superseded=False,
        created_utc=created_utc,
        schema_version=SCHEMA_VERSION,
    )


def _write_report(home: Home, day: date, like: RenderJob, run: _Run) -> None:
    """Leave the measured speed for the next ``max_minutes`` budget, and why jobs failed."""
    content: dict[str, object] = {
        "day": day.isoformat(),
        "rendered": run.rendered,
        "failures": run.failures,
        "steps": like.steps,
        "width": like.width,
        "height": like.height,
    }
    if run.rendered:
        content["seconds_per_image"] = run.busy_seconds / run.rendered
    data = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n"
    home.objects.put(report_key(day), data)


def _draw_sheet(archive: ImageArchive, rows: Sequence[ArchiveRow]) -> bytes:
    from catalog_pipeline.evaluation.contact_sheet import decode_png

    return draw_night_sheet([decode_png(archive.read_image(row.path)) for row in rows])
