"""Dagster's web server behind the shipped nginx file: one door to launch, one to look."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
import trustme
from websockets.sync.client import connect

from tests.defs.conftest import LAUNCHED_RUNS_WAIT
from tests.listeners import free_port
from tests.nginx_server import find_nginx, listening, running_nginx
from tests.test_nginx_profiles import Front, hashed, make_front

A_JOB = """
import dagster as dg

@dg.op
def look(): ...

@dg.job
def looking():
    look()

defs = dg.Definitions(jobs=[looking])
"""

LAUNCH = """
mutation { launchRun(executionParams: {runConfigData: {}, selector: {jobName: "looking",
  repositoryName: "__repository__", repositoryLocationName: "a_job.py"}}) { __typename } }
"""
WIPE = """
mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["catalog", "index"]}}]) {
  __typename } }
"""


@contextmanager
def serving(home: Path, job: Path, *options: str) -> Iterator[int]:
    """``dagster-webserver`` on a port of its own; ready once it has answered."""
    port = free_port()
    program = Path(sys.executable).with_name("dagster-webserver")
    address = ["-h", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        [str(program), *options, *address, "-f", str(job)],
        env={**os.environ, "DAGSTER_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield port
    finally:
        # With its code server; a graceful end waits for open pages.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def wait_until_ready(port: int) -> None:
    end = time.monotonic() + 200
    while True:
        with suppress(requests.ConnectionError):
            assert requests.get(f"http://127.0.0.1:{port}/server_info").status_code == 200
            return
        assert time.monotonic() < end, f"no web server on {port}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, empty_dagster_home: Path) -> Iterator[Front]:
    find_nginx()
    folder = tmp_path_factory.mktemp("doors")
    job, home = folder / "a_job.py", folder / "dagster_home"
    job.write_text(A_JOB, encoding="utf-8")
    shutil.copytree(empty_dagster_home, home)
    with (home / "dagster.yaml").open("a", encoding="utf-8") as file:
        file.write(LAUNCHED_RUNS_WAIT)
    (folder / "operators").write_text(f"ann:{hashed('right')}\n", encoding="utf-8")
    (folder / "readers").write_text(f"rob:{hashed('read')}\n", encoding="utf-8")
    authority, ports = trustme.CA(), (free_port(), free_port())
    with serving(home, job) as writable, serving(home, job, "--read-only") as readable:
        replaced = {
            "listen 443 ssl": listening(ports[0]),
            "listen 8443 ssl": listening(ports[1]),
            "127.0.0.1:3000;": f"127.0.0.1:{writable};",
            "127.0.0.1:3001;": f"127.0.0.1:{readable};",
            "/etc/nginx/catalog-pipeline-operators.htpasswd": str(folder / "operators"),
            "/etc/nginx/catalog-pipeline-readers.htpasswd": str(folder / "readers"),
        }
        with running_nginx(folder, "basic-auth.conf", replaced, authority):
            for port in (writable, readable):
                wait_until_ready(port)
            yield make_front(folder, authority, ports)


def ask(front: Front, door: str, query: str, login: tuple[str, str] | None) -> Any:
    answer = requests.post(
        f"{door}/graphql",
        json={"query": query},
        auth=login,
        headers={"Origin": door, "Sec-Fetch-Site": "same-origin"},
        verify=str(front.bundle),
    )
    return answer.json()["data"] if answer.status_code == 200 else answer.status_code


ANN, ROB = ("ann", "right"), ("rob", "read")


def test_operators_launch_and_readers_only_look(front: Front) -> None:
    version = "{ version }"
    assert ask(front, front.operators, version, None) == 401
    assert ask(front, front.operators, version, ROB) == 401
    for door, login in ((front.operators, ANN), (front.readers, ROB)):
        assert ask(front, door, version, login) == {"version": dg.__version__}
        page = front.get(door, auth=login)
        assert page.status_code == 200
        assert "Dagster" in page.text
    launched = ask(front, front.operators, LAUNCH, ANN)
    assert launched == {"launchRun": {"__typename": "LaunchRunSuccess"}}
    for mutation in (LAUNCH, WIPE):
        (result,) = ask(front, front.readers, mutation, ROB).values()
        assert result == {"__typename": "UnauthorizedError"}
    (wiped,) = ask(front, front.operators, WIPE, ANN).values()
    assert wiped["__typename"] != "UnauthorizedError"


def test_a_subscription_can_begin_through_the_door(front: Front) -> None:
    context = ssl.create_default_context(cafile=str(front.bundle))
    login = requests.Request("GET", front.readers, auth=ROB).prepare().headers["Authorization"]
    with connect(
        front.readers.replace("https", "wss") + "/graphql",
        ssl=context,
        proxy=None,
        subprotocols=["graphql-ws"],  # type: ignore[list-item]
        additional_headers={"Authorization": login},
    ) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv(timeout=60)) == {"type": "connection_ack"}
