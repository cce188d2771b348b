"""Write the report of a night, and the page of all nights: what came of it, what to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_pipeline.errors import (
    GenerationError,
    IntegrityError,
    ObjectNotFoundError,
)
from catalog_pipeline.records import ArchiveRow, IndexRow, LearningRow, Pixels, sources_of
from catalog_pipeline.stores.keys import PAGES_PREFIX
from catalog_pipeline.stores.picture_quarantine import FAILED
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.gallery import shown_days
from catalog_pipeline.workflows.night.night_actions import (
    photo_actions,
    picture_actions,
    refused_action,
    waiting_action,
)
from catalog_pipeline.workflows.night.night_figures import keep_figures, read_figures
from catalog_pipeline.workflows.night.night_window import night_moments, read_attempts
from catalog_pipeline.workflows.night.picture_gate import pass_rates, skus_to_retake
from catalog_pipeline.workflows.night.plan_night import find_plan, report_key
from catalog_pipeline.workflows.night.refused_products import refused_products
from catalog_pipeline.workflows.night.shown_products import (
    all_faults,
    rendering_versions,
    shown_products,
)
from catalog_pipeline.workflows.report_pages import write_page

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.gallery import GalleryProduct
    from catalog_pipeline.evaluation.night_report import NightReport, ServedVersion
    from catalog_pipeline.evaluation.nights_index import NightFigures
    from catalog_pipeline.evaluation.page_texts import PageTexts

FOLDER = "nights"


def reported_days(home: Home) -> list[date]:
    """Every night that a report can be written of, oldest first.

    Those with a picture, published or held back; where there is none yet, the days on which
    something was learned or refused.
    """
    return shown_days(home) or home.learning_log.days()


def kept_figures(home: Home) -> list[NightFigures]:
    """The figures of every night that has a report, oldest first; writes nothing.

    Raises:
        IntegrityError: they are damaged.
    """
    return read_figures(home)


def write_night_report(home: Home, day: date, *, language: str | None = None) -> Path:
    """Write ``reports/nights/dt=<day>.html`` and ``index.html``; returns the path of the former.

    It tells of every attempt at learning since the night before, and of the pictures of the
    day, published or held back. What the index alone knows (products that wait or have failed)
    stands in the report of the newest night. Reads what is stored and changes none of it;
    written anew each time, atomically, the same again while nothing has changed. Where state
    lives in a bucket, the pages are stored there as well. ``language`` is that of
    ``evaluation.yaml`` by default.

    Raises:
        GenerationError: the day has neither a picture nor an attempt at learning.
        IntegrityError: a manifest, the learning log or the figures of the nights are damaged.
    """
    from catalog_pipeline.evaluation.night_report import render_night_report
    from catalog_pipeline.evaluation.nights_index import night_page, render_nights
    from catalog_pipeline.evaluation.page_texts import PageTexts

    texts = PageTexts(language or home.settings.evaluation.language)
    report = collect_night(home, day, texts)
    page = render_night_report(report, texts.language)
    path = write_page(home, f"{FOLDER}/{night_page(day)}", page.encode())
    nights = keep_figures(home, night_figures(report))
    kept = set(home.objects.list(f"{PAGES_PREFIX}{FOLDER}/"))
    gone = [n.day for n in nights if f"{PAGES_PREFIX}{FOLDER}/{night_page(n.day)}" not in kept]
    index = render_nights(nights, texts.language, gone)
    write_page(home, f"{FOLDER}/index.html", index.encode())
    return path


def collect_night(home: Home, day: date, texts: PageTexts) -> NightReport:
    """Everything that the report of ``day`` shows; see :func:`write_night_report`."""
    from catalog_pipeline.evaluation.night_report import NightReport
    from catalog_pipeline.evaluation.night_tables import rows_to_show

    rows, every = home.archive.read_day(day), _every_row(home, day)
    attempts, newest = _attempts(home, day, every)
    if not every and not attempts:
        known = ", ".join(night.isoformat() for night in reported_days(home)[-5:]) or "none"
        raise GenerationError(
            f"nothing was learned, published or held back on {day.isoformat()}; latest nights: "
            f"{known}; run `catalog-pipeline generate --day {day.isoformat()}` first"
        )
    good = [row for row in rows if not row.superseded and row.verdict != FAILED]
    held = [row for row in home.archive.quarantine.read_day(day) if not row.superseded]
    index = home.index.read() if newest else []
    quality = home.settings.generation.quality
    rates = pass_rates([*good, *held])
    refused = refused_products(home, attempts, index)
    failures, notes = _from_plan(home, day, {row.image_id for row in every})
    learned = _learned(attempts)
    products = _products(home, every, attempts, index, texts)
    actions = [
        *(refused_action(p, a, home.settings.catalog.min_photos) for p, a in refused),
        *picture_actions(day, len(held), len(failures), skus_to_retake(rates, quality), rates),
        *waiting_action(index),
        *photo_actions(learned),
    ]
    shown = rows_to_show(good, held, [attempt.sku for attempt in learned], products)
    pictures = _pictures(home, shown)
    gallery = f"gallery-{day.isoformat()}.html"
    evaluation = home.settings.evaluation
    return NightReport(
        day=day,
        rows=good,
        held=held,
        faults={row.image_id: all_faults(row, texts, quality) for row in held},
        attempts=attempts,
        refused=[product for product, _ in refused],
        actions=actions,
        products=products,
        pictures={image_id: pixels for image_id, (pixels, _) in pictures.items()},
        xmp={image_id: xmp for image_id, (_, xmp) in pictures.items()},
        rates=rates,
        failures=failures,
        served=_served(home, [*good, *held]),
        notes=notes,
        gallery=f"../{gallery}" if home.objects.exists(f"reports/{gallery}") else "",
        price_per_hour=evaluation.price_per_hour or 0.0,
        currency=evaluation.currency,
    )


def night_figures(report: NightReport) -> NightFigures:
    """The line of a night on the page of all nights."""
    from catalog_pipeline.evaluation.nights_index import NightFigures

    made = (*report.rows, *report.held)
    return NightFigures(
        day=report.day,
        published=len(report.rows),
        held_back=len(report.held),
        failed=len(report.failures),
        learned=len(report.learned),
        refused=len(report.refused),
        found=sum(rate.found for rate in report.rates),
        judged=sum(rate.pictures for rate in report.rates),
        to_do=len(report.actions),
        learning_seconds=round(sum(each.seconds for each in report.attempts), 1),
        rendering_seconds=round(sum(row.render_seconds for row in made), 1),
    )


def _every_row(home: Home, day: date) -> list[ArchiveRow]:
    """Published and held back rows, superseded ones included."""
    return [*home.archive.read_day(day), *home.archive.quarantine.read_day(day)]


def _attempts(home: Home, day: date, rows: Sequence[ArchiveRow]) -> tuple[list[LearningRow], bool]:
    """The attempts at learning that belong to the night, and whether it is the newest one."""
    days = shown_days(home)
    earlier = max((night for night in days if night < day), default=None)
    later = min((night for night in days if night > day), default=None)

    def moments(night: date | None) -> list[datetime]:
        return [] if night is None else night_moments(night, _every_row(home, night))

    own = night_moments(day, rows)
    return read_attempts(home, own, moments(earlier), moments(later)), later is None


def _learned(attempts: Sequence[LearningRow]) -> list[LearningRow]:
    newest = {attempt.sku: attempt for attempt in attempts}
    return [attempt for attempt in newest.values() if attempt.status == "learned"]


def _products(
    home: Home,
    rows: Sequence[ArchiveRow],
    attempts: Sequence[LearningRow],
    index: Sequence[IndexRow],
    texts: PageTexts,
) -> dict[str, GalleryProduct]:
    failed = {row.sku: row.name for row in index if row.status == "failed"}
    names = failed | {attempt.sku: attempt.name for attempt in attempts}
    learned = {attempt.sku for attempt in attempts if attempt.status == "learned"}
    return shown_products(home, rows, texts.language, others=names, with_photo=learned)


def _from_plan(
    home: Home, day: date, made: set[str]
) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Prompt and reason of every planned picture that is not there, and the plan's notes."""
    plan = find_plan(home, day)
    if plan is None:
        return [], ()
    missing = [job for job in plan.jobs if job.job_id not in made]
    reasons = _failure_reasons(home, day) if missing else {}
    return [(job.prompt, reasons.get(job.job_id, "")) for job in missing], plan.notes


def _failure_reasons(home: Home, day: date) -> dict[str, str]:
    """Job -> why it could not be made, as the latest rendering left it."""
    key = report_key(day)
    try:
        failures = json.loads(home.objects.read(key).data)["failures"]
        return {str(job): str(reason) for job, reason in failures.items()}
    except ObjectNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{home.objects.uri(key)} is not a rendering report ({error}); delete it"
        ) from error


def _served(home: Home, rows: Sequence[ArchiveRow]) -> list[ServedVersion]:
    from catalog_pipeline.evaluation.night_report import ServedVersion

    return [
        ServedVersion(
            collection,
            version,
            sum((collection, version) in sources_of(row).values() for row in rows),
            len(record.concepts) if record else 0,
            record.created_utc if record else None,
        )
        for (collection, version), record in rendering_versions(home, rows).items()
    ]


def _pictures(home: Home, rows: Mapping[str, ArchiveRow]) -> dict[str, tuple[Pixels, bytes]]:
    """Image id -> pixels and XMP; the page says of those that are missing or damaged that so."""
    from catalog_pipeline.evaluation.contact_sheet import decode_png

    found = {}
    for image_id, row in rows.items():
        try:
            png = home.archive.read_image(row.path)
            found[image_id] = decode_png(png), home.marks.packet(png, row)
        except (ObjectNotFoundError, IntegrityError):
            continue
    return found
