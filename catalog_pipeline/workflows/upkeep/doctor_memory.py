"""What ``doctor`` foretells of memory: learning and a night, against what the device has free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.upkeep.check_results import CheckResult, Level

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.memory_need import MemoryNeed


def check_memory(settings: Settings) -> Iterator[CheckResult]:
    """One result for learning and one for a night; reads configurations and headers alone."""
    from catalog_pipeline.diffusion.base import resolve_base_model
    from catalog_pipeline.diffusion.memory_need import (
        device_of,
        free_bytes,
        memory_need,
        what_to_change,
    )

    folder, device = resolve_base_model(settings.base_model), device_of(settings)
    need, free = memory_need(settings, folder), free_bytes(device)
    if need is None or not free:
        yield CheckResult("ok", "memory: nothing is known of this base's blocks or device", "")
        return
    works = {"learn": "learning a product", "night": "a batch of a night"}
    for work, words in works.items():
        peak = need.of(work)  # type: ignore[arg-type]
        what = (
            f"memory: {words} needs about {_gb(peak)} of {_gb(free)} free on {device} "
            f"({_parts(need, work)})"
        )
        if peak <= free:
            yield CheckResult("ok", what, "")
        else:
            # What a CPU lacks it swaps, so work that is slow may still be done.
            level: Level = "warning" if device.type == "cpu" else "error"
            change = what_to_change(settings, folder, work, free)  # type: ignore[arg-type]
            yield CheckResult(level, what, f"in base_model.yaml {change}")


def _parts(need: MemoryNeed, work: str) -> str:
    here = {part: size for part, size in need.weights.items() if part not in need.waiting}
    if work == "learn":
        rest = {"slot and optimiser": need.adapter, "a step": need.step, "views": need.encoding}
    else:
        rest = {"slots": need.adapter, "a batch": need.batch, "decoding": need.decoding}
    return ", ".join(f"{part} {_gb(size)}" for part, size in {**here, **rest}.items())


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
