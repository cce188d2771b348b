"""Runs a command in a network of its own that leads nowhere, and has the kernel count its tries.

``unshare --net python -m tests.governance.without_network REPORT COMMAND...``: brings up the
loopback, runs COMMAND, and writes to REPORT, as JSON:

- ``exit``: the command's exit status;
- ``interfaces``: all there are;
- ``unroutable``: how often any program, in whatever language, sent or connected to an address that
  no route leads to. The kernel refuses each such try with ENETUNREACH, and counts it;
- ``names``: how many questions came to port 53 of the loopback, where a resolver of this machine
  may be named.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_SET_FLAGS, _UP = 0x8914, 0x1
_WAYS = (("--net",), ("--user", "--map-root-user", "--net"))


def run_without_network(
    command: Sequence[str], folder: Path, **options: Any
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The finished command and the report; skips where the kernel gives no namespace.

    ``options`` are those of :func:`subprocess.run`.
    """
    way = _way()
    if way is None:
        pytest.skip("no network namespace here: needs `unshare`, and root or user namespaces")
    report = folder / "without-network.json"
    inside = [sys.executable, "-m", "tests.governance.without_network", str(report), *command]
    done = subprocess.run([*way, *inside], capture_output=True, text=True, **options)
    assert report.is_file(), done.stdout + done.stderr
    told: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return done, told


@cache
def _way() -> tuple[str, ...] | None:
    """How a network of one's own is had here, tried with its loopback."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    probe = [sys.executable, "-m", "tests.governance.without_network", "/dev/null", "true"]
    for flags in _WAYS:
        way = (unshare, *flags, "--")
        if subprocess.run([*way, *probe], capture_output=True).returncode == 0:
            return way
    return None


def main(report: Path, command: Sequence[str]) -> int:
    """See the module."""
    _bring_up_loopback()
    questions = [_listen(family) for family in (socket.AF_INET, socket.AF_INET6)]
    before = unroutable()
    status = subprocess.run(command).returncode
    told = {
        "exit": status,
        "interfaces": [name for _, name in socket.if_nameindex()],
        "unroutable": unroutable() - before,
        "names": sum(map(_count, filter(None, questions))),
    }
    report.write_text(json.dumps(told), encoding="utf-8")
    return status


def unroutable() -> int:
    """How many packets and connections of this network had nowhere to go, since it is there."""
    words = [line.split() for line in Path("/proc/net/snmp").read_text("ascii").splitlines()]
    names, values = (line for line in words if line[0] == "Ip:")
    count = int(dict(zip(names, values, strict=True))["OutNoRoutes"])
    with suppress(FileNotFoundError):  # a kernel without IPv6
        lines = Path("/proc/net/snmp6").read_text("ascii").splitlines()
        count += int(dict(line.split() for line in lines)["Ip6OutNoRoutes"])
    return count


def listening() -> list[str]:
    """The addresses that a program of this network takes TCP connections at, in hex digits."""
    found = []
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in Path(f"/proc/net/{name}").read_text("ascii").splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == "0A":
                    found.append(local.partition(":")[0])
    return found


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh22x", b"lo", _UP))


def _listen(family: socket.AddressFamily) -> socket.socket | None:
    with suppress(OSError):  # no IPv6
        opened = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(("", 53))
        opened.setblocking(False)
        return opened
    return None


def _count(opened: socket.socket) -> int:
    count = 0
    with suppress(BlockingIOError):
        while opened.recv(512):
            count += 1
    return count


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
