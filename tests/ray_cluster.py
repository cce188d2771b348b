"""A real Ray cluster of several nodes on this machine, for the time of a test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TOKEN = "a-token-of-the-tests-alone-0123456789"


@contextmanager
def running_cluster(nodes: int, patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of ``nodes`` nodes with a CPU each, on loopback, that asks for a token."""
    patch.setenv("RAY_AUTH_MODE", "token")
    patch.setenv("RAY_AUTH_TOKEN", TOKEN)
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    # Nodes hand their environment to their workers, which import the tests' modules.
    patch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    )
    from ray.cluster_utils import Cluster

    # Not 127.0.0.1, in place of which a driver takes this machine's address in its network.
    node = {"num_cpus": 1, "node_ip_address": "127.0.0.2", "object_store_memory": 100 * 1024**2}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()
