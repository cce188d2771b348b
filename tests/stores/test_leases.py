"""One learner at a time: exclusion, takeover after a death, and the fence behind both."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from catalog_pipeline.errors import ConflictError, LockTimeoutError, StoreError
from catalog_pipeline.records import AdapterVersion
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.head import HeadObject
from catalog_pipeline.stores.leases import Lease, LeaseRecord
from catalog_pipeline.stores.objects import ObjectStore
from tests.stores.store_processes import Location, Worker

KEY = "collections/default/LEASE.json"


def lease(
    objects: ObjectStore, *, timeout_seconds: float = 10.0, lease_seconds: float = 60.0
) -> AbstractContextManager[Lease]:
    store = AdapterStore(objects, "default")
    return store.lease(timeout_seconds=timeout_seconds, lease_seconds=lease_seconds)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited 30 s"
        time.sleep(0.02)


def test_a_second_learner_waits_and_then_gives_up(objects: ObjectStore) -> None:
    with lease(objects) as first:
        assert objects.lease_object(KEY).is_held()
        record = objects.lease_object(KEY).read()
        assert record is not None
        with (
            pytest.raises(LockTimeoutError, match=f"default is held by {record.holder}; waited 0"),
            lease(objects, timeout_seconds=0.2),
        ):
            pass
        assert not first.is_lost()
    assert not objects.lease_object(KEY).is_held()
    assert objects.lease_object(KEY).read() is None
    with lease(objects) as second:
        assert second.fence > first.fence


def test_a_failing_run_frees_the_collection(objects: ObjectStore) -> None:
    with pytest.raises(KeyError), lease(objects):
        raise KeyError("learning failed")
    with lease(objects, timeout_seconds=0.0) as taken:
        assert taken.fence == 2


def test_collections_do_not_wait_for_each_other(objects: ObjectStore) -> None:
    mugs, bags = AdapterStore(objects, "mugs"), AdapterStore(objects, "鞄")
    with mugs.lease(timeout_seconds=5) as one, bags.lease(timeout_seconds=5) as other:
        assert (one.fence, other.fence) == (1, 1)


def test_a_killed_holder_is_followed(
    objects: ObjectStore, location: Location, start: Callable[..., Worker]
) -> None:
    holder = start("hold", 600, 0.9)
    wait_for(lambda: objects.exists("held"))
    if location.s3:
        # Renewed, it outlives its own length.
        time.sleep(1.2)
    with pytest.raises(LockTimeoutError), lease(objects, timeout_seconds=0.0):
        pass
    holder.kill()
    with lease(objects, timeout_seconds=30) as taken:
        assert taken.fence == 2
    assert objects.lease_object(KEY).read() is None


def test_an_overtaken_learner_cannot_promote(
    objects: ObjectStore, make_version: Callable[..., AdapterVersion]
) -> None:
    store = AdapterStore(objects, "default")
    version = make_version(store, "a")
    store.publish(version)
    with lease(objects) as asleep:
        # What a takeover after an expiry does, while the first holder still believes.
        newer = HeadObject(objects, "collections/default/HEAD.json").issue_fence()
        with pytest.raises(ConflictError, match="another run or a rollback took over"):
            store.promote(version.version, expected=None, fence=asleep.fence)
        assert store.head() is None
        assert store.promote(version.version, expected=None, fence=newer).fence == newer


@pytest.mark.parametrize("location", ["s3"], indirect=True)
def test_a_bucket_lease_that_was_taken_away_is_known_to_be_lost(objects: ObjectStore) -> None:
    with lease(objects, lease_seconds=0.3) as held:
        record = objects.lease_object(KEY).read()
        assert record is not None
        thief = replace(record, holder="thief", expires_utc=datetime.now(UTC) + timedelta(hours=1))
        objects.put(KEY, thief.encode())
        wait_for(held.is_lost)
    # The end of the overtaken run leaves the new holder alone.
    assert objects.lease_object(KEY).read() == thief


@pytest.mark.parametrize("location", ["s3"], indirect=True)
def test_an_expired_bucket_lease_is_free(objects: ObjectStore) -> None:
    expired = LeaseRecord("process 1 on elsewhere", "t", datetime.now(UTC) - timedelta(seconds=1))
    objects.put(KEY, expired.encode())
    assert not objects.lease_object(KEY).is_held()
    with lease(objects, timeout_seconds=0.0):
        assert objects.lease_object(KEY).is_held()


def test_a_damaged_lease_is_reported() -> None:
    with pytest.raises(StoreError, match=r"this is not a lease"):
        LeaseRecord.decode(b"{}")
