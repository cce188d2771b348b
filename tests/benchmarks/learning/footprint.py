"""What learning one more SKU costs as a collection grows: a new process each, as a night has.

    python -m tests.benchmarks.learning.footprint --data DIR [--home build/footprint] [--to 60]

Learns household products one after another with the command line, the ones around the fifth
and the last ones in a process of their own, and writes ``docs/benchmarks/footprint.{md,json}``.
The products between are learned with a single step: what they weigh is the same. Run it
again after a stop: what is measured stays measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from catalog_pipeline.stores.local import LocalObjectStore
from tests.benchmarks.harness.cells import json_bytes
from tests.benchmarks.harness.home import BUILD, DOCS, REPOSITORY, write_household, write_settings
from tests.benchmarks.harness.report import machine, today, write_json

EARLY = (4, 5, 6)
LATE = 3
"""Last products that are measured."""
FIGURES = {
    "cpu_seconds": ("CPU seconds", 1.0, "{:.1f}"),
    "wall_seconds": ("wall seconds", 1.0, "{:.1f}"),
    "peak_rss_bytes": ("peak memory, MiB", 2.0**20, "{:.0f}"),
    "disk_bytes": ("disk, MiB", 2.0**20, "{:.2f}"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=BUILD / "footprint")
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--to", type=int, default=60, help="how many products")
    parser.add_argument("--steps", type=int, default=20, help="of the measured ones")
    options = parser.parse_args()
    home: Path = options.home.resolve()
    skus = prepare(options.data, home, options.to, options.steps)
    tasks = measure(home, skus)
    write_report(options.out, tasks, len(skus), options.steps)


def prepare(data: Path, home: Path, count: int, steps: int) -> list[str]:
    """Products, and two sets of settings: ``config`` and, of one step, ``config-fast``."""
    # Few steps learn too little for the gate; what it costs is the same.
    learning = {
        "steps": steps,
        "gate_min_fidelity_share": -1.0,
        "gate_max_color_shift": 999.0,
    }
    changes = {"catalogs": {"root": "products", "settle_seconds": 0}, "learning": learning}
    write_settings(home / "config", changes)
    fast = learning | {"steps": 1, "gate_images": 1}
    write_settings(home / "config-fast", changes | {"learning": fast})
    skus = sorted(write_household(data, home / "products", count))
    run(home, "config", "index")
    return skus


def measure(home: Path, skus: Sequence[str]) -> dict[int, dict[str, float]]:
    """Task -> what it cost, of the measured ones; products are learned in the order given."""
    measured = {*EARLY, *range(len(skus) - LATE + 1, len(skus) + 1)}
    objects, tasks = LocalObjectStore(home), {}
    waiting: list[str] = []
    for task, sku in enumerate(skus, 1):
        if task not in measured:
            waiting.append(sku)
            continue
        key = f"footprint/task-{task}.json"
        if not objects.exists(key):
            if waiting:
                run(home, "config-fast", "learn", *waiting)
            cost = run(home, "config", "learn", sku)
            objects.put(key, json_bytes(cost))
        waiting = []
        tasks[task] = json.loads(objects.read(key).data)
        print(f"task {task}: {tasks[task]}", flush=True)
    return tasks


def run(home: Path, config: str, *command: str) -> dict[str, float]:
    """The command line in a new process; what it cost and what it left on the disk."""
    before = stored_bytes(home)
    arguments = [sys.executable, "-m", "catalog_pipeline.cli", *command]
    places = ["--config", str(home / config), "--home", str(home)]
    started = time.monotonic()
    process = subprocess.Popen([*arguments, *places], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"`catalog-pipeline {' '.join(command)}` ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": time.monotonic() - started,
        "peak_rss_bytes": float(usage.ru_maxrss * unit),
        "disk_bytes": float(stored_bytes(home) - before),
    }


def stored_bytes(home: Path) -> int:
    """Size of what the home's store holds; photos and this benchmark's notes do not count."""
    skipped = {home / "products", home / "footprint", home / "config", home / "config-fast"}
    return sum(
        path.stat().st_size
        for path in home.rglob("*")
        if path.is_file() and not skipped & set(path.parents)
    )


def write_report(
    out: Path, tasks: Mapping[int, Mapping[str, float]], count: int, steps: int
) -> None:
    """``footprint.md`` and ``footprint.json``."""
    late = [task for task in tasks if task > count - LATE]
    rows, figures = [], {}
    for name, (title, unit, shape) in FIGURES.items():
        early_value = median(tasks[task][name] for task in EARLY) / unit
        late_value = median(tasks[task][name] for task in late) / unit
        figures[name] = late_value / early_value
        values = [shape.format(early_value), shape.format(late_value), f"{figures[name]:.2f}"]
        rows.append(f"| {title} | " + " | ".join(values) + " |")
    where = f"{machine()}, OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'unset')}"
    named = ", ".join(str(task) for task in EARLY)
    text = f"""# What one more SKU costs as a collection grows

Command: `python -m tests.benchmarks.learning.footprint --data DIR` · written {today()} on {where}.

Household products, learned one after another into one collection by `catalog-pipeline learn SKU`,
{steps} steps, each measured one in a process of its own: models loaded, photos masked, slot
trained, gate, version published. Medians of tasks {named} and of the last {LATE} of {count}. Disk
is what the store has more of after the task. Target: at most 1.1 for each.

| | tasks {named} | last {LATE} of {count} | ratio |
|---|---|---|---|
"""
    out.mkdir(parents=True, exist_ok=True)
    (out / "footprint.md").write_text(text + "\n".join(rows) + "\n", "utf-8")
    content = {"date": today(), "machine": where, "steps": steps, "products": count}
    content |= {"tasks": {str(task): dict(cost) for task, cost in tasks.items()}, "ratios": figures}
    write_json(out / "footprint.json", content)


if __name__ == "__main__":
    main()
