"""``gpu.md`` and ``gpu.json``: what a card did, and what a CPU did with smaller models."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import peft
import torch

from tests.benchmarks.gpu.floor import Peaks
from tests.benchmarks.gpu.runner import Rounds, Row
from tests.benchmarks.harness.cells import read_json
from tests.benchmarks.harness.report import machine, today, write_json, write_page

TEMPLATE = Path(__file__).with_name("gpu.md.j2")
_GB = 1e9


def where(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Where, when and with what a table was measured."""
    on_card = device.type == "cuda"
    return {
        "date": today(),
        "device": torch.cuda.get_device_name(device) if on_card else _processor(),
        "driver": _driver() if on_card else None,
        "cuda": torch.version.cuda if on_card else None,
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "peft": peft.__version__,
        "load_average_5_minutes": round(os.getloadavg()[1], 1),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return ", ".join([*names[:1], machine()])


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown (nvidia-smi did not say)"
    return found.stdout.splitlines()[0].strip()


def section(
    command: str,
    place: Mapping[str, Any],
    peaks: Peaks,
    rounds: Rounds,
    seed: int,
    rows: Sequence[Row],
    failures: Sequence[str],
) -> dict[str, Any]:
    """All that was measured on one device."""
    return {
        "command": command,
        "where": dict(place),
        "seed": seed,
        "rounds": {"steps": rounds.steps, "pictures": rounds.pictures, "warm_up": rounds.warm_up},
        "matmul_tflops": peaks.flops / 1e12,
        "copy_gb_per_second": peaks.bytes / _GB,
        "rows": [row.to_record() for row in rows],
        "failures": list(failures),
    }


def write_report(out: Path, **sections: Mapping[str, Any]) -> None:
    """Write both files; ``gpu`` and ``cpu`` that are not given stay as they were measured."""
    known = read_json(out / "gpu.json") or {}
    facts = {name: sections.get(name, known.get(name)) for name in ("gpu", "cpu")}
    write_json(out / "gpu.json", facts)
    write_page(out, TEMPLATE, **facts, tables={k: tables(v) for k, v in facts.items() if v})


def tables(measured: Mapping[str, Any]) -> str:
    """Two Markdown tables: learning steps and pictures."""
    rows = measured["rows"]
    blocks = []
    for task, title, extra in (
        ("step", "Learning steps a second", "as shipped"),
        ("picture", "Pictures a second", "two products"),
    ):
        wanted = [row for row in rows if row["task"] == task]
        memory = any(any(row["peak_bytes"].values()) for row in wanted)
        heads = ["model", "settings", "layers", "batch", "ours", "diffusers", "ours ÷ diffusers"]
        heads += [extra, "perfect run", "ours reaches"]
        heads += ["GB ours", "GB diffusers"] if memory else []
        lines = [f"**{title}**", "", _line(heads), _line(["---"] * len(heads))]
        lines += [_line(_cells(row, extra, memory=memory)) for row in wanted]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _cells(row: Mapping[str, Any], extra: str, *, memory: bool) -> list[str]:
    seconds, floor = row["seconds"], row["floor_seconds"]
    ours = seconds.get("ours")
    ratio = row["ratio"]
    cells = [f"{row['size']}, {row['side_px']} px", row["settings"], row["layers"]]
    cells += [str(row["batch"]), _rate(ours), _rate(seconds.get("diffusers"))]
    cells.append(_spread(ratio) if ratio else "–")
    cells += [_rate(seconds.get(extra)), _figure(1 / floor)]
    cells.append(f"{100 * floor / ours['median']:.0f} %" if ours else "–")
    if memory:
        cells += [_gb(row["peak_bytes"].get(name)) for name in ("ours", "diffusers")]
    return cells


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rate(seconds: Mapping[str, float] | None) -> str:
    """Of the median; the quartiles in brackets."""
    if seconds is None:
        return "out of memory"
    low, high = 1 / seconds["high"], 1 / seconds["low"]
    return f"{_figure(1 / seconds['median'])} ({_figure(low)}–{_figure(high)})"


def _spread(ratio: Mapping[str, float]) -> str:
    return f"**{ratio['median']:.2f}** ({ratio['low']:.2f}–{ratio['high']:.2f})"


def _gb(peak: int | None) -> str:
    return "–" if peak is None else f"{peak / _GB:.1f}"


def _figure(value: float) -> str:
    """Three figures: ``0.0123``, ``1.23``, ``12.3``, ``123``."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
