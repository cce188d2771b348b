"""Publish a night: its staged rows become the day's manifest."""

from __future__ import annotations

from datetime import date

from catalog_pipeline.records import ManifestReport
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.plan_night import read_plan


def publish_manifest(settings: Settings, day: date) -> ManifestReport:
    """Merge the staged rows of ``day`` into its manifest, then clear the staging.

    Grain of the manifest: one row per ``image_id``. Every picture ever rendered for
    the day keeps its row; those that the plan in force does not name are marked
    superseded, and lose the mark when a later plan names them again. Idempotent: a
    second call changes nothing. A crash before the clearing is mended by the next
    call; readers see the manifest before or after, never between.

    Raises:
        GenerationError: the day was never planned.
    """
    plan = read_plan(settings, day)
    archive = open_home(settings).archive
    planned = {job.job_id for job in plan.jobs}
    report = archive.publish_day(day, archive.staged(day), planned)
    archive.clear_staging(day)
    return report
