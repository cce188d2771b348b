"""SIGKILL of a real S3 server while nights are published and products are learned on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.archive import ImageArchive
from tests.builders import NIGHT
from tests.s3_server import S3Server
from tests.stores.store_processes import Location, Worker

pytestmark = pytest.mark.slow

PICTURES = 12


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    running = S3Server(tmp_path)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    yield running
    running.kill()


@pytest.fixture
def location(server: S3Server) -> Location:
    settings = server.settings().model_dump_json()
    return Location(s3=settings, environment=tuple(server.environment.items()))


def until_done(location: Location, task: str, *arguments: object) -> int:
    """Run a task again until it ends well, as a person or a scheduler does; how often it ran."""
    for attempt in range(1, 6):
        worker = Worker(location, task, arguments, None)
        code = worker.wait()
        worker.end()
        if code == 0:
            return attempt
    raise AssertionError(f"{task} failed five times")


def test_a_killed_server_loses_no_published_row(server: S3Server, location: Location) -> None:
    archive = ImageArchive(location.open())
    planned = [f"{name}-{number}" for name in "ab" for number in range(PICTURES)]
    workers = [Worker(location, "publish_rows", (name, PICTURES, planned), None) for name in "ab"]
    acknowledged: set[str] = set()
    for target in (2, 8):
        while len(acknowledged) < target:
            acknowledged |= {row.image_id for row in archive.read_day(NIGHT)}
            time.sleep(0.01)
        server.kill()
        time.sleep(0.5)
        server.start()
        assert acknowledged <= {row.image_id for row in archive.read_day(NIGHT)}
    for worker in workers:
        # 0: it waited the outage out. 1: it reported the outage. Neither may hang.
        assert worker.wait() in (0, 1)
        worker.end()
    for name in "ab":
        until_done(location, "publish_rows", name, PICTURES, planned)
    rows = [row.image_id for row in archive.read_day(NIGHT)]
    assert rows == sorted(planned)
    assert archive.verify_day(NIGHT) == []


def test_a_killed_server_lets_nothing_be_learned_twice(
    server: S3Server, location: Location
) -> None:
    store = AdapterStore(location.open(), "default")
    learner = Worker(location, "learn_all", ("cup", 6), None)
    while store.current() is None:
        time.sleep(0.01)
    server.kill()
    time.sleep(6.0)  # longer than a request is tried again
    server.start()
    code = learner.wait()
    learner.end()
    assert code in (0, 1)
    # A learner that gave up has not freed its lease: it runs out within a minute.
    until_done(location, "learn_all", "cup", 6)
    history = store.history()
    assert [len(version.concepts) for version in history] == [1, 2, 3, 4, 5, 6]
    current = store.current()
    assert current is not None
    assert current.version == history[-1].version
    for digest in current.parts.values():
        store.read_part(digest)
