"""What a killed rendering leaves in the staging area, and what a later plan makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.archive import image_key
from catalog_pipeline.workflows.night.plan_night import plan_night, read_plan
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from tests.workflows.painted_night import DAY, NIGHT, PowerCutError, Studio


@pytest.fixture
def interrupted(make_settings: Callable[..., Settings]) -> Studio:
    """A night that was cut off after two batches, and whose plan has changed since."""
    studio = Studio(make_settings(generation=NIGHT))
    studio.learn("a", "b")
    with pytest.raises(PowerCutError):
        studio.render(power_cut_at=2)
    studio.learn("b", edition="better photos")
    plan_night(studio.home, DAY)
    return studio


def test_pictures_of_the_old_plan_are_kept_and_marked(interrupted: Studio) -> None:
    archive = interrupted.home.archive
    planned = {job.job_id for job in read_plan(interrupted.home, DAY).jobs}
    left = {row.image_id for row in archive.staged(DAY)}
    assert left - planned, "nothing of the old plan was staged"
    interrupted.render()
    publish_manifest(interrupted.home, DAY)
    rows = archive.read_day(DAY)
    assert {row.image_id for row in rows if not row.superseded} == planned
    assert {row.image_id for row in rows if row.superseded} == left - planned
    assert archive.verify_day(DAY) == []
    assert archive.staged(DAY) == []


def test_pictures_of_the_old_plan_that_are_gone_hold_nothing_up(interrupted: Studio) -> None:
    home = interrupted.home
    planned = {job.job_id for job in read_plan(interrupted.home, DAY).jobs}
    left = home.archive.staged(DAY)
    gone = replace(left[0], image_id="gone", path=image_key("0" * 64), sha256="0" * 64)
    home.archive.stage(DAY, "shard-of-the-killed-run", [gone])
    interrupted.render()
    publish_manifest(interrupted.home, DAY)
    rows = home.archive.read_day(DAY)
    assert planned <= {row.image_id for row in rows}
    assert "gone" not in {row.image_id for row in rows}
    assert home.archive.verify_day(DAY) == []
