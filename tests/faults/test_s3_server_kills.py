"""SIGKILL of a real S3 server while nights are published and products are learned on it."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.archive import ImageArchive
from tests import conftest as shared
from tests.builders import NIGHT
from tests.stores.store_processes import Location, Worker

pytestmark = pytest.mark.slow

PICTURES = 12


class RestartableServer:
    """A SeaweedFS of this test's own: killed with SIGKILL, started again on the same files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = shared._free_ports(10)
        self.facts = shared.S3Server(
            endpoint_url=f"http://127.0.0.1:{self._ports[-1]}",
            bucket="arch",
            access_key="testaccess",
            secret_key=uuid.uuid4().hex,
            region="us-east-1",
        )
        identity = {
            "name": "tests",
            "credentials": [
                {"accessKey": self.facts.access_key, "secretKey": self.facts.secret_key}
            ],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
        self._command = shared._weed_command(folder, config, self.facts.bucket, self._ports)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        log_path = self._folder / "log.txt"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", shared._ENDS_WITH_ITS_PARENT, "sh", *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        shared._wait_until_ready(self.facts, self._process, log_path)

    def kill(self) -> None:
        """The shell around the server kills it with SIGKILL when its stdin ends."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def location(self) -> Location:
        environment = (
            ("AWS_ACCESS_KEY_ID", self.facts.access_key),
            ("AWS_SECRET_ACCESS_KEY", self.facts.secret_key),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        )
        return Location(s3=self.facts.settings().model_dump_json(), environment=environment)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RestartableServer]:
    running = RestartableServer(tmp_path)
    for name, value in running.location().environment:
        monkeypatch.setenv(name, value)
    yield running
    running.kill()


def until_done(location: Location, task: str, *arguments: object) -> int:
    """Run a task again until it ends well, as a person or a scheduler does; how often it ran."""
    for attempt in range(1, 6):
        worker = Worker(location, task, arguments, None)
        code = worker.wait()
        worker.end()
        if code == 0:
            return attempt
    raise AssertionError(f"{task} failed five times")


def test_a_killed_server_loses_no_published_row(server: RestartableServer) -> None:
    location = server.location()
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


def test_a_killed_server_lets_nothing_be_learned_twice(server: RestartableServer) -> None:
    location = server.location()
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
