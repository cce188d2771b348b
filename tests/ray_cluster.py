"""A real Ray cluster of several nodes on this machine, for the time of a test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TOKEN = "a-token-of-the-tests-alone-0123456789"
_WORKER = b"ray::_Worker"


@contextmanager
def running_cluster(nodes: int, patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of ``nodes`` nodes with a CPU each, on loopback, that asks for a token."""
    ask_for_a_token(patch)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 100 * 1024**2}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()


def ask_for_a_token(patch: pytest.MonkeyPatch) -> None:
    """Set what nodes and drivers read once a process, when Ray is imported: the same for all."""
    patch.setenv("RAY_AUTH_MODE", "token")
    patch.setenv("RAY_AUTH_TOKEN", TOKEN)
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 127.0.0.1 and no other address
    # Nodes hand their environment to their workers, which import this checkout.
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH")]
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def kill_a_worker(node: Any) -> None:
    """SIGKILL to a worker of ``node``."""
    os.kill(workers_of(node)[0], signal.SIGKILL)


def workers_of(node: Any) -> list[int]:
    """The processes of the actors on ``node``."""
    raylet = node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    return [int(pid) for pid in children if is_worker(pid)]


def descendants(pid: int | str = "self") -> list[int]:
    """The living processes that a process, by default this one, has started, and theirs."""
    found = []
    with suppress(OSError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(child)]
    return found


def listening_addresses(pids: list[int]) -> set[str]:
    """Where the processes listen for TCP."""
    sockets = set()
    for pid in pids:
        with suppress(OSError):
            for number in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(os.readlink(number))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[place] for place in (1, 3, 9))
            if state == "0A" and f"socket:[{inode}]" in sockets:
                found.add(_address(local.partition(":")[0]))
    return found


def _address(digits: str) -> str:
    """Of the kernel's hexadecimal words, each in the order of a little-endian processor."""
    words = [bytes.fromhex(digits[i : i + 8])[::-1] for i in range(0, len(digits), 8)]
    address = ip_address(b"".join(words))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def kill_a_node(cluster: Any) -> None:
    """End a node other than the head at once, as a power cut would."""
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


def is_worker(pid: int | str) -> bool:
    """Whether it is the process of an actor of ours."""
    return command_of(pid).startswith(_WORKER)


def command_of(pid: int | str) -> bytes:
    """Its command line; nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
