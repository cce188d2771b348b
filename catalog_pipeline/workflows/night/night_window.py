"""Which attempts at learning belong to a night: those since the night before was rendered.

A night is rendered at half past two and products are learned all day, so a calendar day would
tell half of them on the wrong page. Every attempt is told by exactly one night once a later one
has been rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from catalog_pipeline.records import ArchiveRow, LearningRow
from catalog_pipeline.workflows.home import Home


@dataclass(frozen=True)
class Moments:
    """When the pictures of a night were made; the whole day (UTC) of one that has none."""

    first: datetime
    last: datetime


def night_moments(day: date, rows: Sequence[ArchiveRow]) -> Moments:
    """From the first to the last of ``rows``, superseded ones included."""
    made = [row.created_utc for row in rows]
    start = datetime.combine(day, time(), UTC)
    return Moments(
        min(made, default=start),
        max(made, default=start + timedelta(days=1, microseconds=-1)),
    )


def read_attempts(
    home: Home, own: Moments, before: Moments | None, after: Moments | None
) -> list[LearningRow]:
    """The attempts of a night, oldest first; ``before`` and ``after`` are its neighbours.

    They ended after the last picture of the night before, and not after the first one of the
    night after. A neighbour that was rendered out of turn bounds nothing.
    """
    since = before.last if before and before.last < own.first else None
    until = after.first if after and after.first > own.first else None
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
