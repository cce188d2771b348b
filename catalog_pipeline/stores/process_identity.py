"""Which process holds something, in a form by which the same machine knows that it is dead."""

from __future__ import annotations

import os
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STARTED_FIELD = 19
"""Of ``/proc/<pid>/stat`` after the program's name: start, in clock ticks since boot."""


def own_process() -> str:
    """This process: boot, process namespace, pid and start; ``""`` where that cannot be known."""
    here, started = _this_machine(), _started(os.getpid())
    return f"{here}/{os.getpid()}/{started}" if here and started else ""


def is_known_dead(process: str) -> bool:
    """Whether :func:`own_process` of the holder names a process of this machine that has ended.

    ``False`` when it is alive, runs on another machine or in another container, or
    when that cannot be known. A number that another process has taken over since does
    not count: its start differs. A machine that started anew has no old processes, but
    another boot id: its leases run out by time.
    """
    here, _, rest = process.rpartition("/")[0].rpartition("/")
    started = process.rpartition("/")[2]
    if not here or here != _this_machine() or not rest.isdigit():
        return False
    return _started(int(rest)) != started


def _this_machine() -> str:
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When ``pid`` began; ``""`` when nothing, or only a remnant not yet waited for, is there."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The program's name stands in brackets and may hold anything.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[_STARTED_FIELD]
