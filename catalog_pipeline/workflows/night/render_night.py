"""Render what is still missing of a night's plan.

A picture is finished once it is stored and its row staged; whatever happens later, it is
not rendered again. The order within a batch is: sample, judge, store the PNGs of those
that are good enough or have no attempt left, stage their rows, try the others again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.records import ArchiveRow, RenderJob, RenderReport
from catalog_pipeline.settings import GenerationSettings, QualitySettings
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.manifest import newest_rows
from catalog_pipeline.stores.picture_quarantine import FAILED
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import check_base_model, require_memory
from catalog_pipeline.workflows.night.night_sheet import SHEET_IMAGES, draw_night_sheet
from catalog_pipeline.workflows.night.picture_gate import (
    FOUND_FIRST,
    last_of_round,
    pass_rates,
    skus_to_retake,
)
from catalog_pipeline.workflows.night.picture_scores import OpenJudge, shipped_judge
from catalog_pipeline.workflows.night.plan_night import find_plan, plan_night, report_key
from catalog_pipeline.workflows.night.render_batches import (
    NightCounts,
    NightRun,
    OpenSampler,
    Sampler,
    Task,
)
from catalog_pipeline.workflows.night.render_workers import render_by_workers
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder

__all__ = ["OpenSampler", "Sampler", "render_night"]


def render_night(
    home: Home,
    day: date,
    *,
    retry_quarantined: bool = False,
    progress: ProgressSink | None = None,
    open_sampler: OpenSampler | None = None,
    encoder: FeatureEncoder | None = None,
    open_judge: OpenJudge | None = None,
) -> RenderReport:
    """Render every job of the night's plan whose picture is not there yet, and stage its row.

    A day without a plan is planned first. A job is done when a staged, published or held
    back row names a picture that is stored and hashes to its name; everything else is
    rendered by the version that the plan names. A picture that is there is not marked or signed
    again, whatever the settings say now. A picture that the judge does not pass is
    made again, with another seed and stronger attention guidance, up to
    ``quality.attempts`` times; the best attempt is kept, and publishing holds back what
    has failed. A batch that the model fails on is tried again job by job; jobs that fail
    alone are reported, and the others go on. Idempotent: a call with nothing missing opens
    no model and writes nothing. A crash loses the pictures in work, never a finished one.

    Args:
        home: its settings say batch size, model and quality gate.
        day: the night.
        retry_quarantined: make further attempts at the pictures that are held back.
        progress: advanced with every batch.
        open_sampler: opens the model; default ``workflows.models.open_sampler``.
        encoder: measures the pictures; default the shipped image encoder.
        open_judge: judges the pictures; default the shipped reflection score.

    Raises:
        BaseModelError: the base model cannot be opened; nothing is written.
        ConfigurationError: the GPU has too little memory for a batch, or pictures cannot be
            marked or signed as the settings ask; nothing is rendered.
        GenerationError: there is no plan and nothing to plan from.
        StoreError: a picture or its row cannot be stored.
    """
    started = time.monotonic()
    sink = progress or SilentProgress()
    generation = home.settings.generation
    quality = generation.quality
    plan = find_plan(home, day)
    if plan is None:
        if open_sampler is None:
            check_base_model(home.settings)
        plan = plan_night(home, day)
    jobs = plan.jobs
    known = _known_rows(home.archive, day)
    missing = _missing(home.archive, jobs, known, quality, retry_quarantined)
    reused = len(jobs) - len(missing)
    if missing:
        home.marks.check()
    if missing and open_sampler is None:
        require_memory(home.settings, "night")
    name = f"render {day.isoformat()}"
    sink.start(name, len(jobs), reused)
    run = NightRun(
        home=home,
        day=day,
        plan_hash=plan.plan_hash,
        known=known,
        open_sampler=open_sampler or _shipped_sampler(),
        open_judge=(open_judge or shipped_judge) if quality.gate else None,
        advance=lambda count, note: sink.advance(name, count, note),
        encoder=encoder,
    )
    shipped = open_sampler is None and encoder is None and open_judge is None
    try:
        if home.settings.execution.engine == "ray" and shipped and missing:
            render_by_workers(run, missing, sink, name)
        else:
            run.render(missing)
    finally:
        sink.finish(name)
    counts = run.counts
    staged = home.archive.staged(day)
    known = newest_rows((*known.values(), *staged))
    rows = [known[job.job_id] for job in jobs if job.job_id in known]
    rates = pass_rates(rows)
    shown = [row for row in rows if row.verdict != FAILED and row.image_id not in counts.failures]
    report = RenderReport(
        day=day,
        rows=tuple(staged),
        rendered=counts.rendered.total(),
        reused=reused,
        failed=tuple(counts.failures),
        seconds=time.monotonic() - started,
        contact_sheet_png=_draw_sheet(home.archive, shown[:SHEET_IMAGES]),
        attempts=counts.attempts,
        quarantined=tuple(row.image_id for row in rows if row.verdict == FAILED),
        pass_rates=rates,
        retake=skus_to_retake(rates, quality),
    )
    if missing:
        _write_report(home, generation, report, counts)
    return report


def _known_rows(archive: ImageArchive, day: date) -> dict[str, ArchiveRow]:
    """Published, held back and staged rows; of two for one picture the newer."""
    held = archive.quarantine.read_day(day)
    return newest_rows((*archive.read_day(day), *held, *archive.staged(day)))


def _missing(
    archive: ImageArchive,
    jobs: Sequence[RenderJob],
    known: Mapping[str, ArchiveRow],
    quality: QualitySettings,
    retry_quarantined: bool,
) -> list[Task]:
    tasks = []
    for job in jobs:
        row = known.get(job.job_id)
        stored = row is not None and _is_stored(archive, row)
        if not stored or (retry_quarantined and row is not None and row.verdict == FAILED):
            tasks.append(_task(job, row, stored, quality))
    return tasks


def _task(job: RenderJob, row: ArchiveRow | None, stored: bool, quality: QualitySettings) -> Task:
    """What is to be done for ``job``: from its first attempt, or where ``row`` left off.

    A lost picture that had passed is made again by the attempt that made it; further
    attempts at one that is held back (and ``stored``) have numbers of their own.
    """
    if row is None or not quality.gate:
        return Task(job, 1, last_of_round(quality, 1) if quality.gate else 1)
    passed = row.verdict == "passed"
    if not passed and not (row.verdict == FAILED and stored):
        return Task(job, 1, last_of_round(quality, 1))
    first = row.attempts if passed else row.attempts + 1
    found = {k: value for k, value in row.scores.items() if k.startswith(FOUND_FIRST)}
    held = None if passed else row
    return Task(job, first, last_of_round(quality, first), held, first_found=found)


def _shipped_sampler() -> OpenSampler:
    from catalog_pipeline.workflows.models import open_sampler

    return open_sampler


def _is_stored(archive: ImageArchive, row: ArchiveRow) -> bool:
    try:
        archive.read_image(row.path)
    except (ObjectNotFoundError, IntegrityError):
        return False
    return True


def _write_report(
    home: Home, settings: GenerationSettings, report: RenderReport, counts: NightCounts
) -> None:
    """Leave the measured speed for the next ``max_minutes`` budget, and what came of the jobs.

    ``seconds_per_image`` is of a picture that was kept, its further attempts included, by mode.
    """
    content: dict[str, object] = {
        "day": report.day.isoformat(),
        "rendered": report.rendered,
        "attempts": report.attempts,
        "quarantined": list(report.quarantined),
        "pass_rates": [asdict(rate) for rate in report.pass_rates],
        "retake": list(report.retake),
        "failures": counts.failures,
        "steps": settings.steps,
        "width": settings.width,
        "height": settings.height,
    }
    if report.rendered:
        content["seconds_per_image"] = {
            mode: counts.busy_seconds[mode] / count for mode, count in counts.rendered.items()
        }
    data = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n"
    home.objects.put(report_key(report.day), data)


def _draw_sheet(archive: ImageArchive, rows: Sequence[ArchiveRow]) -> bytes:
    from catalog_pipeline.evaluation.contact_sheet import decode_png

    pictures = [decode_png(archive.read_image(row.path)) for row in rows]
    modes = [f"{row.mode}, no photo could be used" if row.mode_reason else row.mode for row in rows]
    return draw_night_sheet(pictures, modes)
