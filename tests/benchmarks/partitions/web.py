"""A ``dagster-webserver`` on loopback, asked over HTTP what its pages ask."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.harness.home import REPOSITORY

_PATIENCE_SECONDS = 900.0
_LOCATION = {"repositoryLocationName": "catalog_pipeline", "repositoryName": "__repository__"}

QUERIES = {
    # PartitionHealthQuery
    "health": """query($assetKey: AssetKeyInput!) { assetNodeOrError(assetKey: $assetKey) {
      ... on AssetNode { id partitionKeysByDimension { name type partitionKeys }
        assetPartitionStatuses { ... on DefaultPartitionStatuses {
          materializedPartitions materializingPartitions failedPartitions } } } } }""",
    # AssetGraphLiveQuery, without the checks
    "live": """query($assetKeys: [AssetKeyInput!]!) {
      assetNodes(assetKeys: $assetKeys, loadMaterializations: true) { id
        assetMaterializations(limit: 1) { timestamp runId stepKey }
        partitionStats { numMaterialized numMaterializing numPartitions numFailed } }
      assetsLatestInfo(assetKeys: $assetKeys) { id latestMaterialization { timestamp }
        unstartedRunIds inProgressRunIds latestRun { id status } } }""",
    # AssetPartitionDetailQuery, and AssetPartitionStaleQuery
    "detail": """query($assetKey: AssetKeyInput!, $partitionKey: String!) {
      assetOrError(assetKey: $assetKey) { ... on Asset { id
        definition { id opNames latestRunForPartition(partition: $partitionKey) { id status } }
        assetEventHistory(partitions: [$partitionKey], limit: 1000, eventTypeSelectors:
            [MATERIALIZATION, OBSERVATION, FAILED_TO_MATERIALIZE]) {
          results { ... on MaterializationEvent { runId timestamp } } } } }
      assetNodeOrError(assetKey: $assetKey) { ... on AssetNode {
        staleStatus(partition: $partitionKey)
        staleCauses(partition: $partitionKey) { reason } } } }""",
    # ConfigPartitionsAssetsQuery
    "launchpad": """query($assetKeys: [AssetKeyInput!]) { pipelineOrError(params: {
        pipelineName: "learn_new_skus", repositoryName: "__repository__",
        repositoryLocationName: "catalog_pipeline"}) { ... on Pipeline { id
          partitionKeysOrError(selectedAssetKeys: $assetKeys) {
            ... on PartitionKeys { partitionKeys } } } } }""",
    # LaunchPartitionBackfill
    "backfill": """mutation($names: [String!]!, $asset: AssetKeyInput!) {
      launchPartitionBackfill(backfillParams: {partitionNames: $names, assetSelection: [$asset]}) {
        __typename ... on LaunchBackfillSuccess { backfillId }
        ... on PythonError { message } } }""",
    # RunsFeedQuery on its tab of backfills, BackfillDetailsQuery
    "backfills": """query { partitionBackfillsOrError(limit: 25) { ... on PartitionBackfills {
      results { id status isAssetBackfill isValidSerialization numPartitions timestamp
        partitionSetName assetSelection { path } tags { key value } hasCancelPermission
        assetBackfillData { rootTargetedPartitions { partitionKeys ranges { start end } }
          assetBackfillStatuses { ... on AssetPartitionsStatusCounts { numPartitionsTargeted
            numPartitionsInProgress numPartitionsMaterialized numPartitionsFailed } } } } } } }""",
    # what LocationWorkspaceQuery says of sensors and schedules, TickHistoryQuery
    "automation": """query { repositoriesOrError { ... on RepositoryConnection { nodes {
      sensors { id name sensorState { id status ticks(limit: 10) { id status timestamp } } }
      schedules { id name scheduleState { id status ticks(limit: 10) { id } } } } } } }""",
    "launch": """mutation($params: ExecutionParams!) {
      launchPipelineExecution(executionParams: $params) { __typename
        ... on LaunchRunSuccess { run { id } } ... on PythonError { message }
        ... on RunConfigValidationInvalid { errors { message } }
        ... on InvalidSubsetError { message } } }""",
    "run": """query($id: ID!) { runOrError(runId: $id) {
      ... on Run { status startTime endTime } } }""",
}


@dataclass(frozen=True)
class WebServer:
    """A web server that answers at ``url``."""

    url: str
    pid: int

    def ask(self, name: str, **variables: Any) -> bytes:
        """The answer to one of :data:`QUERIES` as it came; ``RuntimeError`` for an error."""
        body = json.dumps({"query": QUERIES.get(name, name), "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:
            found: bytes = answer.read()
        if b'"errors"' in found[:2000] or b'"message"' in found[:2000]:
            raise RuntimeError(f"{name}: {found[:2000]!r}")
        return found

    def data(self, name: str, **variables: Any) -> Any:
        return json.loads(self.ask(name, **variables))["data"]

    def launch_range(self, asset: Sequence[str], first: str, last: str) -> str:
        """Start a run of an asset over a range of partitions; its id."""
        tags = {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        }
        selector = {**_LOCATION, "pipelineName": "__ASSET_JOB", "assetSelection": [{"path": asset}]}
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        params = {
            "selector": selector,
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": listed},
        }
        return str(self.data("launch", params=params)["launchPipelineExecution"]["run"]["id"])

    def wait_for_end(self, run: str) -> tuple[str, float]:
        """How a run ended, and how long it went."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            found = self.data("run", id=run)["runOrError"]
            if found["endTime"]:
                return found["status"], found["endTime"] - found["startTime"]
            time.sleep(0.5)
        raise TimeoutError(f"the run {run} did not end within {_PATIENCE_SECONDS:.0f} s")

    def cpu_seconds(self) -> float:
        """Processor time of the web server so far."""
        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)

    def peak_rss_bytes(self) -> int:
        """The most memory that the web server ever held."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii", "replace")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 if found else 0


@contextmanager
def running_web_server(scratch: Path, dagster_home: Path) -> Iterator[WebServer]:
    """Over ``dagster_home``, with the shipped workspace and a code server of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    program = str(Path(sys.executable).with_name("dagster-webserver"))
    command = [program, "-h", "127.0.0.1", "-p", str(port), "-w", "dagster_home/workspace.yaml"]
    paths = [os.environ.get("PYTHONPATH"), str(REPOSITORY)]
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (scratch / "web.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)
    try:
        server = WebServer(f"http://127.0.0.1:{port}", process.pid)
        _wait_until_it_answers(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(server: WebServer, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            found = server.data(
                "{ repositoriesOrError { ... on RepositoryConnection { nodes { id } } } }"
            )
            if found["repositoriesOrError"].get("nodes"):
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.5)
    raise RuntimeError("the web server does not answer")
