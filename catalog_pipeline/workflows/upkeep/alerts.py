"""What in a home a person must know of, and the sending of it, each finding once a channel.

A finding waits until every channel has taken it. A channel that fails keeps it for the next
call, and the others do not get it again; how much may wait is bounded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from urllib.parse import quote

from catalog_pipeline.errors import AlertError, KeyDestroyedError
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.report_pages import where_to_look
from catalog_pipeline.workflows.upkeep.alert_channels import Channel, open_channels
from catalog_pipeline.workflows.upkeep.alert_message import Alert, as_payload, as_text, one_line

__all__ = [
    "Alert",
    "Channel",
    "Waiting",
    "as_payload",
    "as_text",
    "deliver",
    "enqueue",
    "late_nights",
    "nights_to_look_at",
    "one_line",
    "open_channels",
    "refused_candidates",
    "trial_alert",
]

MAX_WAITING = 200
"""Findings that may wait at once; the oldest are dropped first, and named."""

NIGHTS_LOOKED_BACK = 7
SECONDS_FOR_SENDING = 25.0
"""No message is begun later: a tick of a sensor has 60 s, and one message may take 20."""


@dataclass(frozen=True)
class Waiting:
    """A finding and the channels that have not taken it yet."""

    alert: Alert
    channels: tuple[str, ...]


def refused_candidates(home: Home, known: Collection[str]) -> tuple[list[str], list[Alert]]:
    """Every candidate in quarantine by its key, and a message for each that is not ``known``.

    The same refusal (photos, settings and parent as before) replaces itself in quarantine, so a
    nightly retry is no new finding.

    Returns:
        The keys of all that lie there, sorted, and the messages in their order.

    Raises:
        StoreError: the home cannot be listed or read.
    """
    found, alerts = [], []
    for collection in sorted({row.collection for row in home.index.read()}):
        prefix = f"collections/{collection}/quarantine/"
        for stored in home.objects.list(prefix):
            folder, _, name = stored.removeprefix(prefix).partition("/")
            if name != "report.json":
                continue
            key = f"refused/{collection}/{folder}"
            found.append(key)
            if key not in known:
                alerts.append(_refusal(home, key, stored))
    return found, alerts


def _refusal(home: Home, key: str, stored: str) -> Alert:
    sku, complaint = key.rpartition("/")[2].rpartition("-")[0], ""
    try:
        report = json.loads(home.objects.read(stored).data)
        sku, complaint = str(report["sku"]), str(report["complaint"])
    except (ValueError, KeyError, TypeError, KeyDestroyedError):
        complaint = f"{home.objects.uri(stored)} cannot be read"
    pictures = where_to_look(home.objects, stored.removesuffix("report.json") + "pictures.png")
    return Alert(
        key=key,
        kind="candidate_refused",
        subject=sku,
        title=one_line(f"{sku}: the learned candidate was refused", 200),
        reason=one_line(complaint),
        action=one_line(f"look at {pictures}; docs/operations.md, A quarantined candidate"),
        link=_asset_link(home, "learning/concept", sku),
    )


def nights_to_look_at(last: date | None, now: datetime, home: Home) -> list[date]:
    """The nights after ``last`` whose manifest should be there at ``now``, oldest first.

    Seven at most, and tonight alone where none was looked at yet. ``now`` is in the time zone of
    the schedules.
    """
    late_from = home.settings.alerts.late_from
    if late_from is None:
        return []
    newest = now.date() if now.time() >= late_from else now.date() - timedelta(days=1)
    first = newest - timedelta(days=NIGHTS_LOOKED_BACK - 1)
    first = now.date() if last is None else max(first, last + timedelta(days=1))
    return [first + timedelta(days=n) for n in range((newest - first).days + 1)]


def late_nights(home: Home, nights: Sequence[date]) -> list[Alert]:
    """A message for each of ``nights`` without a manifest; none while nothing was ever learned.

    Raises:
        StoreError: the home cannot be read.
    """
    collections = {row.collection for row in home.index.read()}
    if not nights or all(home.adapters(name).head() is None for name in collections):
        return []
    published, held = set(home.archive.days()), set(home.archive.quarantine.days())
    return [_late(home, day, day in held) for day in nights if day not in published]


def _late(home: Home, day: date, all_held_back: bool) -> Alert:
    reason, action = (
        f"no manifest by {home.settings.alerts.stale_after}",
        f"see that the daemon runs and read the run's error; then catalog-pipeline generate "
        f"--day {day}",
    )
    if all_held_back:
        reason = "every picture was held back, so nothing was published"
        action = f"catalog-pipeline gallery --day {day}; docs/operations.md, Pictures held back"
    return Alert(
        key=f"late/{day}",
        kind="night_late",
        subject=day.isoformat(),
        title=f"the night {day} is late",
        reason=reason,
        action=action,
        link=_asset_link(home, "archive/image_manifest", day.isoformat()),
    )


def _asset_link(home: Home, asset: str, partition: str) -> str:
    base = home.settings.alerts.ui_url.rstrip("/")
    return f"{base}/assets/{asset}?partition={quote(partition, safe='')}"


def trial_alert(moment: datetime) -> Alert:
    """A message that says of itself that it is none; a new one for each ``moment``."""
    return Alert(
        key=f"test/{moment.isoformat()}",
        kind="test",
        subject="test",
        title="a test message of catalog-pipeline",
        reason="somebody ran catalog-pipeline alert --test",
        action="nothing: this channel works",
    )


def enqueue(
    waiting: Sequence[Waiting], alerts: Sequence[Alert], channels: Collection[str]
) -> tuple[list[Waiting], int]:
    """``waiting`` with ``alerts`` behind it, and how many of the oldest were dropped.

    A finding that waits already is not added again; a channel that is no longer set is
    forgotten.
    """
    kept = [
        replace(item, channels=left)
        for item in waiting
        if (left := tuple(name for name in item.channels if name in channels))
    ]
    keys = {item.alert.key for item in kept}
    names = tuple(channels)
    kept += [Waiting(alert, names) for alert in alerts if names and alert.key not in keys]
    dropped = max(0, len(kept) - MAX_WAITING)
    return kept[dropped:], dropped


def deliver(
    waiting: Sequence[Waiting],
    channels: Mapping[str, Channel],
    most: int,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Waiting], list[str]]:
    """Send what waits, oldest first, to each channel that has not taken it.

    A channel that fails is left alone until the next call: the rest of its messages would fail
    too, and take the time of the others.

    Args:
        waiting: findings with the channels that each still has to reach.
        channels: every channel that is set.
        most: messages that one channel gets in this call.
        clock: seconds, for the bound on the whole call.

    Returns:
        What still waits, and a line for each channel that failed.
    """
    end = clock() + SECONDS_FOR_SENDING
    room = dict.fromkeys(channels, most)
    problems, still = [], []
    for item in waiting:
        left = []
        for name in item.channels:
            if not room[name] or clock() >= end:
                left.append(name)
                continue
            room[name] -= 1
            try:
                channels[name](item.alert)
            except AlertError as error:
                problems.append(f"{name}: {error}")
                room[name] = 0
                left.append(name)
        if left:
            still.append(replace(item, channels=tuple(left)))
    return still, problems
