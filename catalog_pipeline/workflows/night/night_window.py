"""Which attempts at learning belong to a night: those since the night before was rendered.

A night is rendered at half past two and products are learned all day, so a calendar day would
tell half of them on the wrong page. Every attempt is told by exactly one night once a later one
has been rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

from catalog_pipeline.records import ArchiveRow, LearningRow
from catalog_pipeline.workflows.home import Home


def night_moments(day: date, rows: Sequence[ArchiveRow]) -> list[datetime]:
    """When each of ``rows`` was made; begin and end of the day (UTC) where there is none."""
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1, microseconds=-1)
    return [row.created_utc for row in rows] or [start, end]


def read_attempts(
    home: Home,
    own: Sequence[datetime],
    before: Sequence[datetime] = (),
    after: Sequence[datetime] = (),
) -> list[LearningRow]:
    """The attempts of a night, oldest first.

    ``own``, ``before`` and ``after`` are the moments of the night and of its neighbours, empty
    where there is none. An attempt belongs to the night when it ended after the last picture
    that the night before had made by then, and not after the last one that the night itself had
    made when the night after began; without a night after, until now. A neighbour that was
    rendered wholly out of turn bounds nothing.
    """
    since = max((moment for moment in before if moment < min(own)), default=None)
    until = None
    if after:
        until = max((moment for moment in own if moment < min(after)), default=None)
    log = home.learning_log
    days = [
        day
        for day in log.days()
        if (since is None or day >= since.date()) and (until is None or day <= until.date())
    ]
    found = [row for day in days for row in log.read_day(day)]
    within = [
        row
        for row in found
        if (since is None or row.ended_utc > since) and (until is None or row.ended_utc <= until)
    ]
    return sorted(within, key=lambda row: (row.ended_utc, row.attempt_id))
