"""What a perfect run would take: the work in FLOPs and bytes against what the device reaches.

The floor of a task is ``max(FLOPs / matrix product, weight bytes / memory)``, both rates measured
in the same run. It counts matrix products, convolutions and attention once, and each weight once a
pass; activations that are written and read, norms, and the optimiser are left out. Nothing that
computes the same numbers in the same type can be faster, and nothing reaches it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)


@dataclass(frozen=True)
class Peaks:
    """The best of several runs on this device: FLOPs and bytes a second."""

    flops: float
    bytes: float

    def floor_seconds(self, flops: float, read_bytes: float) -> float:
        """Of work that multiplies so much and reads so much."""
        return max(flops / self.flops, read_bytes / self.bytes)


def measure_peaks(
    device: torch.device, dtype: torch.dtype, sides: tuple[int, ...], copied_bytes: int
) -> Peaks:
    """Square products of ``sides`` in ``dtype``, and a copy, which reads and writes its bytes."""
    flops = 0.0
    for side in sides:
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(left)
        seconds = _best_seconds(device, lambda a=left, b=right, c=out: torch.mm(a, b, out=c))
        flops = max(flops, 2 * side**3 / seconds)
    source = torch.ones(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Peaks(flops, 2 * copied_bytes / _best_seconds(device, lambda: target.copy_(source)))


def _best_seconds(device: torch.device, action: Callable[[], object], runs: int = 20) -> float:
    times = []
    for _ in range(3 + runs):
        start = now(device)
        action()
        times.append(now(device) - start)
    return max(min(times[3:]), 1e-9)


def now(device: torch.device) -> float:
    """Seconds of a clock, the device's work done: the wall's for a card, else the processor's.

    On a CPU with one thread processor time leaves other programs out.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def count_flops(action: Callable[[], object]) -> int:
    """FLOPs of matrix products, convolutions and attention in ``action``, backward included.

    In-place products are not counted by torch, so ``action`` is to be diffusers' side.
    """
    aten = torch.ops.aten
    on_cpu: dict[Any, Any] = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        action()
    return int(counter.get_total_flops())


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    del out_shape
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(
    grad: Any, query: Any, key: Any, value: Any, *_: Any, out_shape: Any, **__: Any
) -> int:
    del out_shape
    return int(sdpa_backward_flop_count(grad, query, key, value))
