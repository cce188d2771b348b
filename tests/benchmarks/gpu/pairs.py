"""Several ways to do one thing, timed by turns in one process."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tests.benchmarks.gpu.floor import now


@dataclass(frozen=True)
class Spread:
    """The median of some values, and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def to_record(self) -> dict[str, Any]:
        """For the JSON report."""
        return asdict(self)


def time_by_turns(
    device: torch.device, ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: int
) -> dict[str, list[float]]:
    """Seconds of each way, one a round; every round has all of them, in turning order.

    A way that runs out of memory while it warms up is left out.
    """
    able = {}
    for name, way in ways.items():
        if _warm_up(device, way, warm_up):
            able[name] = way
    seconds: dict[str, list[float]] = {name: [] for name in able}
    order = list(able)
    for _ in range(rounds):
        for name in order:
            start = now(device)
            able[name]()
            seconds[name].append(now(device) - start)
        order.append(order.pop(0))
    return seconds


def _warm_up(device: torch.device, way: Callable[[], object], runs: int) -> bool:
    try:
        for _ in range(runs):
            way()
        now(device)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return False
    return True


def ratio_of(left: Sequence[float], right: Sequence[float]) -> Spread:
    """``right / left`` round by round: how many times as fast as ``right`` the ``left`` way is."""
    return Spread.of([theirs / ours for ours, theirs in zip(left, right, strict=True)])


def peak_bytes(device: torch.device, way: Callable[[], object]) -> int | None:
    """The most memory that tensors took on a card during ``way``; ``None`` on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    way()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
