"""``dagster dev`` over a home of its own: web server, daemon and code server on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, load_settings
from catalog_pipeline.workflows.home import Home, open_home
from tests.faults.dagster_stack import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 1200.0
"""For a run to end on a loaded machine; a quiet one takes a minute."""

PAGE_SECONDS = 120.0
"""For a page to show what it has."""

PREFIX = "CATALOG_PIPELINE_"

CHANGES: dict[str, dict[str, Any]] = {
    # The shipped base and the shipped way of making pictures; a tenth of the learning.
    "base_model": {"threads": 1},
    "catalogs": {"root": "products", "settle_seconds": 0},
    "learning": {
        "steps": 6,
        "batch_size": 2,
        "latent_views": 4,
        "scenes": ["on a white background", "on a wooden table"],
        "backdrops_per_scene": 1,
        "gate_images": 1,
        # After a tenth of the learning a product has just begun to look like itself.
        "gate_min_fidelity_share": -1.0,
        "gate_max_color_shift": 999.0,
    },
    "generation": {
        "policies": {
            "singles_per_sku": 1,
            "pairs": 2,
            "triples": 0,
            "coverage": {"images": 0, "nights": 7, "top_up": "singles"},
        },
        "steps": 8,
        "quality": {"attempts": 1},
    },
}
"""What the home changes in the shipped settings, so that the whole story takes minutes."""

_START = """
mutation Start($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on Sensor { sensorState { id } } }
}
"""
_STOP = """
mutation Stop($id: String!) { stopSensor(id: $id) { __typename } }
"""
_RUNS = """
{ runsOrError(limit: 50) { ... on Runs { results { runId jobName status parentRunId } } } }
"""


@dataclass
class UiStack:
    """A web UI that answers at ``url``, and the home behind it."""

    url: str
    home: Home
    log: Path

    @property
    def products(self) -> Path:
        """The watched folder."""
        return self.home.settings.catalog_root

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL request."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        data: dict[str, Any] = found["data"]
        return data

    def runs(self, job: str) -> list[dict[str, Any]]:
        """The runs of ``job``, newest first."""
        listed: list[dict[str, Any]] = self.ask(_RUNS)["runsOrError"]["results"]
        return [run for run in listed if run["jobName"] == job]

    def ended(self, job: str, status: str) -> dict[str, Any]:
        """The newest run of ``job`` once it has ended, which must be as ``status``."""

        def last() -> dict[str, Any] | None:
            found = self.runs(job)
            over = found and found[0]["status"] in ("SUCCESS", "FAILURE", "CANCELED")
            return found[0] if over else None

        run: dict[str, Any] = wait_for(last, f"the end of a run of {job}")
        assert run["status"] == status, self.log.read_text("utf-8")[-4000:]
        return run

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The sensor ``catalog_watch`` is on for as long as the block lasts."""
        selector = {
            "repositoryLocationName": "catalog_pipeline",
            "repositoryName": "__repository__",
            "sensorName": "catalog_watch",
        }
        started = self.ask(_START, selector=selector)["startSensor"]
        assert started["__typename"] == "Sensor", started
        yield
        stopped = self.ask(_STOP, id=started["sensorState"]["id"])["stopSensor"]
        assert stopped["__typename"] == "StopSensorMutationResult", stopped


@contextmanager
def running_ui(folder: Path) -> Iterator[UiStack]:
    """``dagster dev``, as ``make dev`` starts it, over a new home in ``folder``."""
    config, dagster_home = folder / "assets_config", folder / "dagster_home"
    home = dagster_home / "storage"  # as shipped: the web server reaches the pages in it
    _write_config(config)
    dagster_home.mkdir()
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", dagster_home)
    port = _free_port()
    stack = UiStack(
        f"http://127.0.0.1:{port}", open_home(load_settings(config, home)), folder / "dev.log"
    )
    stack.products.mkdir(parents=True)
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "--host", "127.0.0.1"]
    command += ["--port", str(port), "-w", "dagster_home/workspace.yaml"]
    own = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = {
        **own,
        CONFIG_ENV: str(config),
        HOME_ENV: str(home),
        "DAGSTER_HOME": str(dagster_home),
        "PYTHONPATH": str(REPOSITORY),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }
    with stack.log.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_take_signals,
        )
    try:
        wait_for(lambda: _answers(stack, process), f"the web UI; its log is {stack.log}")
        yield stack
    finally:
        _end(process)


def _write_config(config: Path) -> None:
    config.mkdir(parents=True)
    for shipped in sorted((REPOSITORY / "assets_config").glob("*.yaml")):
        content = yaml.safe_load(shipped.read_text("utf-8")) or {}
        content |= CHANGES.get(shipped.stem, {})
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (config / shipped.name).write_text(text, encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _answers(stack: UiStack, process: subprocess.Popen[bytes]) -> bool:
    """Whether the web server has loaded the code location."""
    assert process.poll() is None, stack.log.read_text("utf-8")[-4000:]
    try:
        found = stack.ask(
            "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus "
            "locationOrLoadError { __typename } } } } }"
        )
    except (urllib.error.URLError, ConnectionError):
        return False
    entries = found["workspaceOrError"].get("locationEntries", [])
    if not entries or entries[0]["loadStatus"] != "LOADED":
        return False
    kind = entries[0]["locationOrLoadError"]["__typename"]
    assert kind == "RepositoryLocation", stack.log.read_text("utf-8")[-4000:]
    return True


def _take_signals() -> None:
    """In the child: signals that the parent may have been started to ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask ``dagster dev`` to end its parts, then end whatever is left of its group."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=60)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
