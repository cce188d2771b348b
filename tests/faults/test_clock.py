"""The clock is set back under leases, settle windows and rows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from catalog_pipeline.errors import LockTimeoutError
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores import leases
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.leases import LeaseRecord
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.process_identity import own_process
from catalog_pipeline.stores.s3 import S3ObjectStore
from catalog_pipeline.workflows.catalog.first_seen import FIRST_SEEN_KEY
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night import render_batches
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from tests.stores.store_processes import Location, Worker
from tests.workflows.painted_night import DAY, NIGHT, Studio

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "collections/default/LEASE.json"
HOUR = timedelta(hours=1)

S3_ONLY = pytest.mark.parametrize("location", ["s3"], indirect=True)
"""In a folder the operating system holds the lease, without any clock."""


def set_clock(monkeypatch: pytest.MonkeyPatch, module: object, by: timedelta) -> None:
    """Have ``module`` read a clock that is off ``by`` so much."""

    class OtherClock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            assert tz is UTC
            return datetime.now(UTC) + by

    monkeypatch.setattr(module, "datetime", OtherClock)


def take(objects: ObjectStore, timeout_seconds: float, lease_seconds: float = 0.6) -> int:
    store = AdapterStore(objects, "default")
    with store.lease(timeout_seconds=timeout_seconds, lease_seconds=lease_seconds) as lease:
        return lease.fence


@S3_ONLY
def test_a_dead_holder_from_before_the_clock_was_set_back_is_followed(location: Location) -> None:
    objects = location.open()
    # Taken by another machine an hour "later" than now: by its date it lives for an hour.
    ahead = LeaseRecord("process 1 on elsewhere", "t", datetime.now(UTC) + HOUR)
    objects.put(KEY, ahead.encode())
    with pytest.raises(LockTimeoutError):
        take(objects, timeout_seconds=0.2)
    started = time.monotonic()
    assert take(objects, timeout_seconds=10) == 1
    assert 0.5 < time.monotonic() - started < 60


@S3_ONLY
def test_a_living_holder_whose_clock_is_set_back_keeps_the_lease(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = location.open()
    with AdapterStore(objects, "default").lease(timeout_seconds=5, lease_seconds=0.9) as held:
        # Its renewals go on by the stopwatch, and date themselves by the new clock, as
        # does everybody on this machine.
        set_clock(monkeypatch, leases, -HOUR)
        with pytest.raises(LockTimeoutError):
            take(objects, timeout_seconds=2.0, lease_seconds=0.9)
        assert not held.is_lost()


@S3_ONLY
def test_a_killed_process_of_this_machine_blocks_nobody(location: Location) -> None:
    objects = location.open()
    holder = Worker(location, "hold", (600, 60.0), None)
    try:
        while not objects.exists("held"):
            time.sleep(0.02)
        with pytest.raises(LockTimeoutError):
            take(objects, timeout_seconds=0.2)
    finally:
        holder.kill()
    started = time.monotonic()
    # Its lease has almost a minute left.
    assert take(objects, timeout_seconds=30, lease_seconds=60.0) == 2
    assert time.monotonic() - started < 30
    holder.end()


@S3_ONLY
def test_a_process_of_another_machine_is_never_taken_for_dead(location: Location) -> None:
    objects = location.open()
    elsewhere = "another boot/" + own_process().partition("/")[2].replace(str(os.getpid()), "1")
    alive = LeaseRecord("process 1 on elsewhere", "t", datetime.now(UTC) + HOUR, elsewhere)
    objects.put(KEY, alive.encode())
    with pytest.raises(LockTimeoutError):
        take(objects, timeout_seconds=0.2, lease_seconds=60.0)


def test_photos_from_before_the_clock_was_set_back_settle_all_the_same(
    settings: Settings, make_photo: Callable[..., Path]
) -> None:
    folder = settings.catalog_root / "mug"
    for number in range(3):
        make_photo(folder / f"{number}.jpg", seed=number, age_seconds=0)
    # The photos are of now; the clock then goes a day back.
    start = datetime.now(UTC) - timedelta(days=1)
    assert refresh_index(open_home(settings), now=start).unsettled == ("mug",)
    soon = timedelta(seconds=settings.catalog.settle_seconds - 1)
    assert refresh_index(open_home(settings), now=start + soon).unsettled == ("mug",)
    # One more photo arrives: the window starts anew.
    make_photo(folder / "3.jpg", seed=3, age_seconds=0)
    assert refresh_index(open_home(settings), now=start + soon).unsettled == ("mug",)
    assert refresh_index(open_home(settings), now=start + 1.5 * soon).unsettled == ("mug",)
    done = refresh_index(open_home(settings), now=start + 3 * soon)
    assert done.added == ("mug",)
    assert done.rows[0].photo_count == 4


def test_a_clock_set_back_twice_costs_one_more_window(
    settings: Settings, make_photo: Callable[..., Path]
) -> None:
    for number in range(3):
        make_photo(settings.catalog_root / "mug" / f"{number}.jpg", seed=number, age_seconds=0)
    window = timedelta(seconds=settings.catalog.settle_seconds + 1)
    now = datetime.now(UTC)
    assert refresh_index(open_home(settings), now=now - HOUR).unsettled == ("mug",)
    assert refresh_index(open_home(settings), now=now - 2 * HOUR).unsettled == ("mug",)
    assert refresh_index(open_home(settings), now=now - 2 * HOUR + window).added == ("mug",)
    objects = open_home(settings).objects
    assert objects.exists(FIRST_SEEN_KEY)


def test_a_picture_rendered_anew_after_the_clock_was_set_back_counts(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = Studio(make_settings(generation=NIGHT))
    studio.learn("a", "b")
    studio.render()
    publish_manifest(studio.home, DAY)
    home = studio.home
    lost = home.archive.read_day(DAY)[0]
    home.objects.delete(lost.path)
    # Another machine draws the same job a little differently, an hour "earlier".
    set_clock(monkeypatch, render_batches, -HOUR)
    monkeypatch.setattr("tests.workflows.painted_night.colour_of", lambda sku: other_colour(sku))
    report = studio.render()
    assert report.rendered == 1
    publish_manifest(studio.home, DAY)
    (found,) = [row for row in home.archive.read_day(DAY) if row.image_id == lost.image_id]
    assert found.path != lost.path
    assert home.archive.verify_day(DAY) == []
    assert home.archive.staged(DAY) == []


def other_colour(sku: str) -> object:
    import numpy as np

    return np.random.default_rng([*sku.encode(), 1]).integers(40, 216, 3, dtype=np.uint8)


def find_faketime() -> Path | None:
    """The library of Debian's package libfaketime."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return found[0] if found else None


def take_and_die(s3: str) -> None:
    """Run in a child: take the lease for a minute and be gone."""
    objects = S3ObjectStore(Settings.model_validate_json(s3).archive.s3)  # type: ignore[arg-type]
    record = LeaseRecord("process 1 on elsewhere", "t", datetime.now(UTC) + timedelta(seconds=60))
    objects.put(KEY, record.encode())
    print(date.today().isoformat())


@S3_ONLY
def test_a_lease_taken_under_a_real_wrong_clock(location: Location, settings: Settings) -> None:
    library = find_faketime()
    if library is None:
        pytest.skip("no libfaketime (Debian: apt-get install libfaketime); the clock is injected")
    objects = location.open()
    s3 = replace_s3(settings, location)
    code = f"from tests.faults.test_clock import take_and_die; take_and_die({s3!r})"
    # Not further: servers refuse requests that are signed 15 minutes off.
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "LD_PRELOAD": str(library), "FAKETIME": "+10m"},
        capture_output=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr.decode()
    record = objects.lease_object(KEY).read()
    assert record is not None
    assert record.expires_utc is not None
    assert record.expires_utc - datetime.now(UTC) > timedelta(minutes=9)
    assert take(objects, timeout_seconds=10) == 1


def replace_s3(settings: Settings, location: Location) -> str:
    from catalog_pipeline.settings import S3Settings

    s3 = S3Settings.model_validate_json(location.s3)
    archive = settings.archive.model_copy(update={"s3": s3})
    return settings.model_copy(update={"archive": archive}).model_dump_json()
