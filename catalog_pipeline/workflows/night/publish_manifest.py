"""Publish a night: its staged rows become the day's manifest."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from catalog_pipeline.records import ManifestReport
from catalog_pipeline.stores.picture_quarantine import FAILED
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.plan_night import read_plan


def publish_manifest(home: Home, day: date) -> ManifestReport:
    """Merge the staged rows of ``day`` into its manifest, then clear the staging.

    Grain of the manifest: one row per ``image_id``. Every picture ever rendered for
    the day keeps its row; those that the plan in force does not name are marked
    superseded, and lose the mark when a later plan names them again. Idempotent: a
    second call changes nothing. Each shard is read once, and only what was read is cleared: a
    shard that is staged meanwhile waits for the next call. A crash before or within the clearing
    is mended by the next call; readers see the manifest before or after, never between. A row
    that an interrupted rendering of another plan has staged, and whose picture has been removed
    since, is passed over: it must not hold up the night.

    A picture that did not pass the quality gate goes to quarantine instead. If an earlier
    picture of the same job had been published, the manifest's row names the one held back
    from then on and is marked superseded: no row vanishes, and no reader is shown it. A
    job that has passed since leaves quarantine.

    Raises:
        GenerationError: the day was never planned.
    """
    plan = read_plan(home, day)
    archive = home.archive
    planned = {job.job_id for job in plan.jobs}
    staging = archive.read_staging(day)
    left = {row.path for row in staging.rows if row.image_id not in planned}
    lost = set(home.objects.missing_keys(left))
    staged = [row for row in staging.rows if row.image_id in planned or row.path not in lost]
    published = archive.values(day, "image_id")
    good = [row for row in staged if row.verdict != FAILED or row.image_id in published]
    held = archive.quarantine.settle_day(day, staged, planned)
    reasons = {row.image_id: f"held back: {row.reason}" for row in held}
    report = archive.publish_day(day, good, planned - reasons.keys(), reasons)
    if report.changed or staged:  # a rerun that finds it published, but not cleared, notes it
        facts = {"rows": report.rows, "added": report.added, "held_back": len(held)}
        home.audit.append("publish", day.isoformat(), version=archive.version(day), facts=facts)
    archive.clear_published(staging, {row.image_id for row in staged})
    return replace(report, quarantined=sum(row.image_id in planned for row in held))
