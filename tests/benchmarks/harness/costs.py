"""What a block of code cost: CPU and wall seconds, peak memory of the process."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass
class Cost:
    """Filled when the measured block ends.

    ``cpu_seconds`` are of all threads. ``peak_rss_bytes`` is the highest resident
    memory of the process: during the block where the system lets the mark be
    reset (Linux), else since the process began.
    """

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_rss_bytes: int = 0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block; the cost is complete after it."""
    cost = Cost()
    _reset_peak()
    cpu, wall = time.process_time(), time.monotonic()
    yield cost
    cost.cpu_seconds = time.process_time() - cpu
    cost.wall_seconds = time.monotonic() - wall
    cost.peak_rss_bytes = _peak_rss_bytes()


def resident_bytes() -> int:
    """Memory that the process holds now; 0 where the system does not tell."""
    found = re.search(r"VmRSS:\s+(\d+) kB", _read_status())
    return int(found.group(1)) * 1024 if found else 0


def _reset_peak() -> None:
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return  # No such file, or not ours to write: the mark is that of the whole process.


def _peak_rss_bytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", _read_status())
    if found:
        return int(found.group(1)) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def _read_status() -> str:
    return _STATUS.read_text("ascii", "replace") if _STATUS.exists() else ""
