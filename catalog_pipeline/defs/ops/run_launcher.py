"""Dagster's own launcher, which also knows when nobody works on a run any more.

A code server notices the death of its own workers within a second. When the server has
died too (a power cut, a kill of everything), nobody does: the run would count as started
until ``max_runtime_seconds``, and its pool would stay taken for hours.
"""

import json
import time
from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import ConfigurableClassData, deserialize_value

PATIENCE_SECONDS = 90
"""A daemon replaces a dead code server within 60 s, and starts a failed run again only once: that
one start must find the new server."""

_ANSWER_SECONDS = 5
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
_WORKER_COMMAND = b"multiprocessing"


class WatchedRunLauncher(DefaultRunLauncher):
    """Named by ``run_launcher`` in ``dagster.yaml``; asked by run monitoring.

    A run is dead when for :data:`PATIENCE_SECONDS` its code server has not known it (or not
    answered) and the process that worked on it has been gone. A run whose code server is
    on another machine is left alone: its process cannot be seen from here.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._gone_since: dict[str, float] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether someone still works on a started run."""
        server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        pid = self._worker_pid(run.run_id)
        if server.get("host") not in _LOCAL_HOSTS or pid is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "not started on this machine")
        if _is_worker(pid) or _is_known(server, run.run_id):
            self._gone_since.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        gone_since = self._gone_since.setdefault(run.run_id, time.monotonic())
        if time.monotonic() - gone_since < PATIENCE_SECONDS:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "gone, a moment ago")
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"its process {pid} is gone, and its code server does not know it"
        )

    def _worker_pid(self, run_id: str) -> int | None:
        """What the worker itself noted at its start."""
        entries = self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        for entry in entries:
            event = entry.dagster_event
            noted = event.engine_event_data.metadata.get("pid") if event is not None else None
            if noted is not None:
                return int(str(noted.value))
        return None


def _is_worker(pid: int) -> bool:
    """Whether a run worker is alive under ``pid``; a number taken over by another program is not.

    A dead process that was not waited for has an empty command line.
    """
    try:
        return _WORKER_COMMAND in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _is_known(server: dict[str, str | int], run_id: str) -> bool:
    """Whether the code server that started the run answers and still has it."""
    client = DagsterGrpcClient(
        host=str(server["host"]),
        port=int(server["port"]) if "port" in server else None,
        socket=str(server["socket"]) if "socket" in server else None,
        use_ssl=bool(server.get("use_ssl", False)),
    )
    try:
        answer = client.can_cancel_execution(
            CanCancelExecutionRequest(run_id=run_id), timeout=_ANSWER_SECONDS
        )
    except DagsterUserCodeUnreachableError:
        return False
    return deserialize_value(answer, CanCancelExecutionResult).can_cancel
