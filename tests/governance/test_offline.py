"""The line needs no network, and never tries to reach one: docs/governance/offline.md."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.governance.offline_line import COMMANDS, REPOSITORY
from tests.governance.without_network import run_without_network
from tests.network_guard import LOG_ENV, OutwardError, is_here, outward

GUARDED = Path(__file__).parent / "guarded"
TIMEOUT_SECONDS = 1200
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1, as /proc/net/tcp writes them on a little-endian machine."""

OUTSIDE = "192.0.2.1"
"""An address of documentation's own network (RFC 5737), which nobody has."""


def guarded(log: Path) -> dict[str, str]:
    """An environment in which every Python process is guarded and notes its refusals in ``log``."""
    paths = [str(GUARDED), str(REPOSITORY), os.environ.get("PYTHONPATH")]
    kept = {name: value for name, value in os.environ.items() if not _speaks_of_elsewhere(name)}
    return {
        **kept,
        LOG_ENV: str(log),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
    }


def _speaks_of_elsewhere(name: str) -> bool:
    """Variables of the person who runs the tests: servers, and proxies, which would hide them."""
    return name.startswith(("AWS_", "CATALOG_PIPELINE_")) or name.lower().endswith("_proxy")


def noted(log: Path) -> list[str]:
    return log.read_text("utf-8").splitlines() if log.exists() else []


def command_of(folder: Path, model: Path, *rest: str) -> list[str]:
    line = [sys.executable, "-m", "tests.governance.offline_line"]
    return [*line, str(folder), str(model), *rest]


def told_by(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def run_alone(folder: Path, model: Path, *rest: str) -> dict[str, Any]:
    """What the line told that ran in a network that leads nowhere, and tried to reach nothing."""
    log = folder / "refused.txt"
    done, report = run_without_network(
        command_of(folder / "line", model, *rest),
        folder,
        cwd=REPOSITORY,
        env=guarded(log),
        timeout=TIMEOUT_SECONDS,
    )
    told = told_by(done)
    assert told["exits"] == {command[0]: 0 for command in COMMANDS}
    # A program of whatever language that had tried to leave would have been refused, and counted.
    assert report["interfaces"] == ["lo"]
    assert (report["unroutable"], report["names"]) == (0, 0)
    assert noted(log) == []
    return told


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_product_is_learned_and_a_night_made_in_a_network_that_leads_nowhere(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    assert run_alone(tmp_path, tiny_model_folder)["exits"]["generate"] == 0


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_the_line_and_the_ui_run_in_a_network_that_leads_nowhere(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    told = run_alone(tmp_path, tiny_model_folder, "ui")
    assert "<html" in told["page"].lower()
    assert "learning/concept" in told["assets"]
    # Nobody can come in either.
    assert set(told["listeners"]) <= LOOPBACK


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_the_line_opens_no_socket_but_on_this_machine_and_asks_for_no_name(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    log = tmp_path / "refused.txt"
    done = subprocess.run(
        command_of(tmp_path / "line", tiny_model_folder, "ui"),
        cwd=REPOSITORY,
        env=guarded(log),
        timeout=TIMEOUT_SECONDS,
        capture_output=True,
        text=True,
    )
    assert set(told_by(done)["exits"].values()) == {0}
    assert noted(log) == []


CONNECT = f"import socket; socket.socket().connect(('{OUTSIDE}', 443))"
PROBES = {
    "a connection": (CONNECT, f"socket.connect ('{OUTSIDE}', 443)"),
    "of a process further down": (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CONNECT!r}])",
        f"socket.connect ('{OUTSIDE}', 443)",
    ),
    "that is swallowed": (
        "import urllib.request as r, contextlib\n"
        f"with contextlib.suppress(OSError): r.urlopen('http://{OUTSIDE}/')",
        f"socket.connect ('{OUTSIDE}', 80)",
    ),
    "a datagram": (
        f"import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'', ('{OUTSIDE}', 53))",
        f"socket.sendto ('{OUTSIDE}', 53)",
    ),
    "a connected datagram": (
        f"import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).connect(('{OUTSIDE}', 53))",
        f"socket.connect ('{OUTSIDE}', 53)",
    ),
    "a name": (
        "import socket; socket.getaddrinfo('catalog.example', 443)",
        "socket.getaddrinfo 'catalog.example'",
    ),
    "a name, the old way": (
        "import socket; socket.gethostbyname('catalog.example')",
        "socket.gethostbyname 'catalog.example'",
    ),
    "a number, backwards": (
        f"import socket; socket.gethostbyaddr('{OUTSIDE}')",
        f"socket.gethostbyaddr '{OUTSIDE}'",
    ),
}


@pytest.mark.parametrize("probe", PROBES)
def test_the_guard_sees_what_reaches_outward(tmp_path: Path, probe: str) -> None:
    code, expected = PROBES[probe]
    log = tmp_path / "refused.txt"
    subprocess.run([sys.executable, "-c", code], env=guarded(log), capture_output=True)
    (line,) = noted(log)
    assert line.endswith(f": {expected}")


def test_the_guard_lets_this_machine_be_reached(tmp_path: Path) -> None:
    code = (
        "import socket as s\n"
        "with s.create_server(('127.0.0.1', 0)) as server:\n"
        "    s.create_connection(('localhost', server.getsockname()[1])).close()\n"
        "with s.socket(s.AF_UNIX) as here, s.socket(s.AF_UNIX) as there:\n"
        f"    here.bind({str(tmp_path / 'socket')!r}); here.listen()\n"
        f"    there.connect({str(tmp_path / 'socket')!r})\n"
        "print(s.getaddrinfo(s.gethostname(), 80) != [])\n"
    )
    log = tmp_path / "refused.txt"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=guarded(log),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, noted(log)) == (0, []), done.stderr


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        (b"localhost", True),
        ("0.0.0.0", True),
        ("", True),
        (None, True),
        ("10.0.0.5", False),
        ("169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("localhost.example", False),
    ],
)
def test_which_addresses_are_of_this_machine(host: str | bytes | None, here: bool) -> None:
    assert is_here(host) is here
    assert (outward("socket.gethostbyaddr", (host,)) is None) is here


NATIVE = (
    "import ctypes, socket, struct\n"
    "libc = ctypes.CDLL(None)\n"
    "fd = libc.socket(socket.AF_INET, socket.{kind}, 0)\n"
    "to = struct.pack('=H', 2) + struct.pack('!H', 443)\n"
    f"to += socket.inet_aton('{OUTSIDE}') + bytes(8)\n"
    "raise SystemExit(libc.connect(fd, to, 16) == 0)\n"
)
"""A connection that Python does not see: as libraries in C, Rust or Go make theirs."""


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_the_kernel_counts_what_the_guard_cannot_see(tmp_path: Path, kind: str) -> None:
    log = tmp_path / "refused.txt"
    code = NATIVE.replace("{kind}", kind)
    done, report = run_without_network([sys.executable, "-c", code], tmp_path, env=guarded(log))
    assert done.returncode == 0, "the connection was made"
    assert report["unroutable"] == 1
    assert noted(log) == []


def test_a_question_to_a_resolver_of_this_machine_is_counted(tmp_path: Path) -> None:
    code = "import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'?', ('127.0.0.53', 53))"
    done, report = run_without_network([sys.executable, "-c", code], tmp_path, cwd=REPOSITORY)
    assert (done.returncode, report["names"], report["unroutable"]) == (0, 1, 0)


def test_a_test_of_this_suite_that_connects_outward_is_refused(
    refused_connections: list[str],
) -> None:
    with pytest.raises(OutwardError, match="refused by the tests"):
        socket.create_connection((OUTSIDE, 443), timeout=1)
    assert refused_connections == [f"socket.connect ('{OUTSIDE}', 443)"]
    refused_connections.clear()


def test_a_test_of_this_suite_that_connects_outward_fails_even_where_it_swallows_that(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_it.py").write_text(
        "import contextlib, socket\n"
        "def test_quiet(): pass\n"
        "def test_outward():\n"
        f"    with contextlib.suppress(OSError): socket.create_connection(('{OUTSIDE}', 443))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-c", os.devnull]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert "2 passed, 1 error" in done.stdout, done.stdout
    assert f"this one tried: socket.connect ('{OUTSIDE}', 443)" in done.stdout
