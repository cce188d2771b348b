"""Two runs of one night publish at once, and are killed at random, while a reader looks on."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from catalog_pipeline.stores.archive import ImageArchive
from tests.builders import NIGHT
from tests.stores.store_processes import Location, Worker

SKUS_A_NIGHT = 3


@pytest.mark.parametrize(
    ("location", "pictures", "kills"),
    [
        ("local", 20, 8),
        pytest.param("s3", 20, 12, marks=pytest.mark.slow),
    ],
    indirect=["location"],
)
def test_six_writers_killed_at_random_lose_and_repeat_nothing(
    location: Location, pictures: int, kills: int
) -> None:
    # Both nights want the same pictures: what one lost or repeated would show.
    names = [f"sku{number}" for number in range(SKUS_A_NIGHT)] * 2
    planned = [f"{name}-{number}" for name in names[:SKUS_A_NIGHT] for number in range(pictures)]
    archive = ImageArchive(location.open())
    assert _look(archive, planned) == 0
    workers = [_start(location, name, pictures, planned) for name in names]
    chance = random.Random(7)
    # The next one dies once so many rows are published.
    moments = sorted(chance.sample(range(len(planned) - 1), kills), reverse=True)
    seen: list[int] = []
    killed = 0
    try:
        while any(worker.process.is_alive() for worker in workers):
            seen.append(_look(archive, planned))
            running = [i for i, worker in enumerate(workers) if worker.process.is_alive()]
            if running and moments and seen[-1] >= moments[-1]:
                moments.pop()
                victim = chance.choice(running)
                workers[victim].end()
                workers[victim] = _start(location, names[victim], pictures, planned)
                killed += 1
            time.sleep(0.005)
        assert [worker.wait() for worker in workers] == [0] * len(workers)
    finally:
        for worker in workers:
            worker.end()
    assert killed >= kills // 2
    assert _look(archive, planned) == len(planned)
    assert seen == sorted(seen), "a reader saw a published row vanish"
    assert not any(row.superseded for row in archive.read_day(NIGHT))
    assert archive.verify_day(NIGHT) == []
    assert len(archive.versions(NIGHT)) == len(planned)


def _start(location: Location, name: str, pictures: int, planned: list[str]) -> Worker:
    return Worker(location, "publish_rows", (name, pictures, planned), None)


def _look(archive: ImageArchive, planned: list[str]) -> int:
    """Read the manifest as it is now; how many rows it has, each whole and there once."""
    rows = archive.read_day(NIGHT)
    counts = Counter(row.image_id for row in rows)
    assert set(counts) <= set(planned)
    assert all(count == 1 for count in counts.values())
    if rows:
        # The newest row is the one whose picture might not have been there in time.
        newest = max(rows, key=lambda row: row.created_utc)
        assert archive.read_image(newest.path) == b"\x89PNG " + newest.image_id.encode()
    return len(rows)
