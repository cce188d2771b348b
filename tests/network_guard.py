"""No socket but of this machine: an audit hook that refuses and notes every other one.

Python tells of each name that it looks up, and of each address that it connects or sends to,
before it happens (PEP 578), whichever module asks. Sockets of libraries in other languages do not
pass here; `tests/governance/without_network.py` has the kernel count those.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import Any

LOG_ENV = "NETWORK_GUARD_LOG"
"""Names the file that `tests/governance/guarded/sitecustomize.py` notes refusals in."""

_REACHES = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_LOOKS_UP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_OF_THIS_MACHINE = (socket.AF_UNIX, socket.AF_NETLINK)


class OutwardError(OSError):
    """A socket or a name that leads away from this machine."""


def guard(note: Callable[[str], None]) -> None:
    """Refuse from now on, for as long as this process lives, what leads away; ``note`` hears it."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event[:7] != "socket.":
            return
        found = outward(event, arguments)
        if found:
            note(found)
            raise OutwardError(f"refused by the tests: {found}")

    sys.addaudithook(hook)


def outward(event: str, arguments: tuple[Any, ...]) -> str | None:
    """What an audit event would reach beyond this machine; ``None`` for nothing."""
    if event in _REACHES:
        opened, address = arguments
        if address is None or opened.family in _OF_THIS_MACHINE:
            return None
        if opened.family in _INTERNET and is_here(address[0]):
            return None
        return f"{event} {address!r}"
    if event in _LOOKS_UP or event == "socket.getnameinfo":
        name = arguments[0][0] if event == "socket.getnameinfo" else arguments[0]
        # A number needs no look-up by itself, but backwards it does.
        asked = is_here(name) or (event not in _BACKWARDS and is_number(name))
        return None if asked or name == socket.gethostname() else f"{event} {name!r}"
    return None


_BACKWARDS = {"socket.gethostbyaddr", "socket.getnameinfo"}


def is_here(host: str | bytes | None) -> bool:
    """Whether an address or a name is this machine's own, as every system has it."""
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    if not text or text.lower() == "localhost":
        return True
    with suppress(ValueError):
        number = ip_address(text.partition("%")[0])
        if isinstance(number, IPv6Address) and number.ipv4_mapped is not None:
            number = number.ipv4_mapped
        return number.is_loopback or number.is_unspecified
    return False


def is_number(host: str | bytes) -> bool:
    """Whether an address is written in digits."""
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    with suppress(ValueError):
        return bool(ip_address(text.partition("%")[0]))
    return False


def note_in_file(found: str) -> None:
    """Add a line to the file that the environment names; several processes may at once."""
    descriptor = os.open(os.environ[LOG_ENV], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{os.getpid()} {' '.join(sys.argv[:3])}: {found}\n".encode())
    finally:
        os.close(descriptor)
