"""A daemon, a code server and run workers in processes of their own, over a tiny real model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, Settings, load_settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from tests.defs.test_reexecution import launch_run
from tests.faults import fault_files
from tests.workflows.tiny_catalog import tiny_sections, write_photos

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 600.0
GENERATION: dict[str, Any] = {
    "scenes": [{"name": "wood", "text": "on wood"}, {"name": "sand", "text": "on sand"}],
    "policies": {"singles_per_sku": 2, "pairs": 0, "triples": 0},
    "steps": 2,
    "width": 16,
    "height": 16,
    "batch_size": 2,
    "quality": {"gate": False},
}

_ENDS_WITH_ITS_PARENT = '"$@" & read -r _; kill -9 0'
"""Runs the daemon until stdin ends, then ends its whole process group."""


def write_config(folder: Path, model: Path, **sections: Any) -> None:
    """Settings files for tiny learning and tiny pictures; ``sections`` replace whole files."""
    files = tiny_sections(model) | {"generation": GENERATION}
    files["catalogs"] = files.pop("catalog")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (files | sections).items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true result of ``condition``."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


@dataclass
class Stack:
    """Dagster as it runs on a server: daemon, its code server, and a worker a run."""

    folder: Path
    environment: Mapping[str, str]
    instance: dg.DagsterInstance
    settings: Settings
    workspace: WorkspaceProcessContext
    daemon_shell: subprocess.Popen[bytes] | None = None
    _left_behind: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_daemon(self) -> None:
        """Start ``dagster-daemon run`` as docs/operations.md tells."""
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemon_shell = subprocess.Popen(
                ["sh", "-c", _ENDS_WITH_ITS_PARENT, "sh", *self._daemon_command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env=dict(self.environment),
                start_new_session=True,
            )

    def start_second_daemon(self) -> None:
        """Start a daemon beside what a killed one has left running."""
        assert self.daemon_shell is not None
        self._left_behind.append(self.daemon_shell)
        self.start_daemon()

    def _daemon_command(self) -> list[str]:
        executable = str(Path(sys.executable).with_name("dagster-daemon"))
        return [executable, "run", "-w", str(self.folder / "workspace.yaml")]

    def daemon(self) -> psutil.Process:
        """The daemon's process."""
        assert self.daemon_shell is not None
        shell = psutil.Process(self.daemon_shell.pid)
        return wait_for(shell.children, "the daemon")[0]

    def server_of(self, worker: int) -> psutil.Process:
        """The code server that started a worker; the daemon takes a new one every minute."""
        server = psutil.Process(worker).parent()
        assert server is not None
        assert "grpc" in server.cmdline()
        return server

    def code_server(self) -> psutil.Process:
        """A gRPC server that the daemon keeps for the code location."""
        servers = wait_for(
            lambda: [child for child in self.daemon().children() if "grpc" in command_of(child)],
            "the code server",
        )
        found: psutil.Process = servers[-1]
        return found

    def stop(self) -> None:
        """End the daemon, its code server and every worker at once, as a power cut does."""
        for shell in filter(None, [self.daemon_shell, *self._left_behind]):
            assert shell.stdin is not None
            shell.stdin.close()
            shell.wait(timeout=30)
        self.daemon_shell = None
        self._left_behind.clear()

    def add_product(self, sku: str, colour: tuple[int, int, int]) -> None:
        """Put three photos of a product in the watched folder, and its row in the index."""
        write_photos(self.settings, sku, colour=colour)
        refresh_index(open_home(self.settings))
        self.instance.add_dynamic_partitions("sku", [sku])

    def learn(self, sku: str) -> str:
        """Queue the learning of a product; the id of the run."""
        return self.launch("learn_new_skus", {"dagster/partition": sku})

    def versions_with(self, sku: str) -> list[str]:
        """Every published version that added ``sku``, oldest first."""
        history = open_home(self.settings).adapters("default").history()
        added = []
        for version in history:
            parent = next((old for old in history if old.version == version.parent), None)
            if version.concept(sku) and not (parent and parent.concept(sku)):
                added.append(version.version)
        return added

    def is_served(self, sku: str) -> bool:
        """Whether the head knows the product, and every part of it is stored and whole."""
        store = open_home(self.settings).adapters("default")
        current = store.current()
        assert current is not None
        for digest in current.parts.values():
            store.read_part(digest)
        return current.concept(sku) is not None

    def status(self, sku: str) -> str:
        """The product's status in the index."""
        return {row.sku: row.status.value for row in open_home(self.settings).index.read()}[sku]

    def arm(self, action: str, point: str) -> None:
        """Have the next process that reaches ``point`` die (``kill``) or ``wait``."""
        for name in (fault_files.REACHED_FILE, fault_files.GO_ON_FILE):
            (self.settings.home / name).unlink(missing_ok=True)
        (self.settings.home / fault_files.FAULT_FILE).write_text(f"{action} {point}")

    def reached(self) -> int:
        """The pid of the process that reached the armed point."""
        file = self.settings.home / fault_files.REACHED_FILE
        wait_for(lambda: file.exists() and file.read_text(), "the armed point")
        return int(file.read_text())

    def go_on(self) -> None:
        """Let the waiting process pass."""
        (self.settings.home / fault_files.GO_ON_FILE).touch()

    def launch(self, job: str, tags: Mapping[str, str]) -> str:
        """Queue a run as the UI does; its id."""
        return launch_run(self.workspace.create_request_context(), job, tags)

    def finished(self, run_id: str) -> dg.DagsterRun:
        """The run once it has ended."""

        def ended() -> dg.DagsterRun | None:
            run = self.instance.get_run_by_id(run_id)
            return run if run is not None and run.is_finished else None

        return wait_for(ended, f"the end of run {run_id}")

    def retry_of(self, run_id: str) -> dg.DagsterRun:
        """The automatic second run of ``run_id``, once it has ended."""

        def found() -> str | None:
            started = dg.RunsFilter(tags={"dagster/parent_run_id": run_id})
            runs = self.instance.get_runs(filters=started)
            return runs[0].run_id if runs else None

        return self.finished(wait_for(found, f"the retry of run {run_id}"))

    def pool_is_free(self, pool: str) -> bool:
        """Whether no unfinished run claims the pool."""
        running = self.instance.get_runs(
            filters=dg.RunsFilter(
                statuses=[
                    dg.DagsterRunStatus.STARTED,
                    dg.DagsterRunStatus.STARTING,
                    dg.DagsterRunStatus.QUEUED,
                ]
            )
        )
        info = self.instance.event_log_storage.get_concurrency_info(pool)
        return not running and not info.claimed_slots


@contextmanager
def running_stack(folder: Path, model: Path, **sections: Any) -> Iterator[Stack]:
    """A daemon on the shipped ``dagster.yaml``, polling every second instead of every 30."""
    home, config, dagster_home = folder / "home", folder / "config", folder / "dagster_home"
    write_config(config, model, **sections)
    dagster_home.mkdir()
    shipped = yaml.safe_load((REPOSITORY / "dagster_home" / "dagster.yaml").read_text("utf-8"))
    shipped["run_monitoring"]["poll_interval_seconds"] = 1
    (dagster_home / "dagster.yaml").write_text(yaml.safe_dump(shipped), encoding="utf-8")
    module = {
        "module_name": "tests.faults.armed_definitions",
        "location_name": "catalog_pipeline",
        "working_directory": str(REPOSITORY),
    }
    workspace = {"load_from": [{"python_module": module}]}
    (folder / "workspace.yaml").write_text(yaml.safe_dump(workspace), encoding="utf-8")
    environment = {
        **os.environ,
        CONFIG_ENV: str(config),
        HOME_ENV: str(home),
        "DAGSTER_HOME": str(dagster_home),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    settings = load_settings(config, home)
    settings.catalog_root.mkdir(parents=True)
    target = WorkspaceFileTarget([str(folder / "workspace.yaml")])
    with (
        dg.DagsterInstance.from_config(str(dagster_home)) as instance,
        # What a web server has: a code server of its own, which only describes the jobs.
        WorkspaceProcessContext(instance, target) as process,
    ):
        stack = Stack(folder, environment, instance, settings, process)
        stack.start_daemon()
        try:
            yield stack
        finally:
            stack.stop()


def command_of(process: psutil.Process) -> list[str]:
    """The command line; ``[]`` of a process that has just ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process runs under ``pid``; one that ended and was not yet waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(pid: int) -> None:
    """SIGKILL, and wait until it has worked."""
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid), f"the death of {pid}", 10)
