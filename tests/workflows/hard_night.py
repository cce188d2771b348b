"""A night with hard pictures: those in which product ``a`` stands beside another."""

from __future__ import annotations

from collections.abc import Callable

from catalog_pipeline.records import ArchiveRow, RenderJob
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.night.plan_night import plan_night, read_plan
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from tests.workflows.painted_night import DAY, NIGHT, Studio

FORGOTTEN = "a"
ALWAYS = {FORGOTTEN: 99}
ONCE = {FORGOTTEN: 1}


def hard_studio(make_settings: Callable[..., Settings]) -> Studio:
    """Three products; those pictures in which ``a`` stands with another are the hard ones."""
    made = Studio(make_settings(generation=NIGHT))
    made.learn("a", "b", "c")
    plan_night(made.home, DAY)
    return made


def hard_jobs(studio: Studio) -> dict[str, RenderJob]:
    jobs = read_plan(studio.home, DAY).jobs
    found = {j.job_id: j for j in jobs if FORGOTTEN in j.skus and len(j.skus) > 1}
    assert 2 <= len(found) < len(jobs)
    return found


def held(studio: Studio) -> dict[str, ArchiveRow]:
    rows = studio.home.archive.quarantine.read_day(DAY)
    return {row.image_id: row for row in rows}


def published(studio: Studio) -> dict[str, ArchiveRow]:
    return {row.image_id: row for row in studio.home.archive.read_day(DAY)}


def published_night(studio: Studio) -> Studio:
    """A published night of which every picture of ``a`` and another product is held back."""
    studio.render(forgets=ALWAYS)
    publish_manifest(studio.home, DAY)
    studio.painted()
    return studio
