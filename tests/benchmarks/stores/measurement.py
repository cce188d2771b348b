"""One measured figure: median wall and CPU seconds of a few runs, and its target."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks.harness.costs import measured

REPEATS = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """``wall_seconds`` and ``cpu_seconds`` are medians of ``runs`` runs, each on its own.

    CPU seconds are of this process with all its threads; an S3 server's are not in it.
    ``target_seconds`` is ``None`` where nothing was promised.
    """

    what: str
    target_seconds: float | None
    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    runs: int
    detail: str = ""

    @property
    def verdict(self) -> str:
        """Whether the target is met by the clock, or at least by the processor time."""
        if self.target_seconds is None:
            return "no target"
        if self.wall_seconds <= self.target_seconds:
            return "met"
        return "CPU only" if self.cpu_seconds <= self.target_seconds else "missed"

    def to_record(self) -> dict[str, Any]:
        """What the JSON report holds."""
        return {**asdict(self), "verdict": self.verdict}


def measure(
    what: str,
    action: Callable[[], object],
    *,
    target_seconds: float | None = None,
    prepare: Callable[[], object] | None = None,
    runs: int = REPEATS,
) -> Measurement:
    """Run ``action`` ``runs`` times, each after ``prepare``, which is not measured.

    What ``action`` returns last is the measurement's detail when it is a text.
    """
    costs, result = [], None
    for _ in range(runs):
        if prepare is not None:
            prepare()
        with measured() as cost:
            result = action()
        costs.append(cost)
    found = Measurement(
        what=what,
        target_seconds=target_seconds,
        wall_seconds=statistics.median(cost.wall_seconds for cost in costs),
        cpu_seconds=statistics.median(cost.cpu_seconds for cost in costs),
        peak_rss_bytes=max(cost.peak_rss_bytes for cost in costs),
        runs=runs,
        detail=result if isinstance(result, str) else "",
    )
    _log.info(
        "%s: %.3f s wall, %.3f s CPU, %s %s",
        *(what, found.wall_seconds, found.cpu_seconds, found.verdict, found.detail),
    )
    return found
