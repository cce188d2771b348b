"""A night by workers of a Ray cluster against the same night without one.

    python -m tests.benchmarks.workers [--pictures 200] [--out docs/benchmarks]

Learns the sample products for a few steps (how well does not matter here), and then
renders the same night over a copy of that home: in the process, by one worker and by two, each
with one thread, in a process of its own. Two processes without Ray, half a night each, say what
two workers could at most do on this machine. Writes ``workers.{md,json}``.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from catalog_pipeline.settings import load_settings
from catalog_pipeline.studio.sample_catalog import write_sample_catalog
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.render_night import render_night
from tests.benchmarks.harness.home import (
    BUILD,
    REPOSITORY,
    add_report_options,
    log_to_stdout,
    make_parser,
    write_settings,
)
from tests.benchmarks.harness.report import machine, today, write_json, write_page

TEMPLATE = Path(__file__).with_name("workers.md.j2")
DAY = date(2026, 3, 1)
STEPS, ROUNDS = 10, 3
WAYS = ("local", "one", "two")

log = logging.getLogger("bench")


def main() -> None:
    parser = make_parser("workers", __doc__)
    add_report_options(parser)
    parser.add_argument("--home", type=Path, default=BUILD / "workers")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--night", nargs=2, metavar=("HOME", "WAY"), help="render one, print it")
    options = parser.parse_args()
    if options.night:
        print(json.dumps(render(Path(options.night[0]), options.night[1])))
        return
    log_to_stdout()
    learned = learn(options.home.resolve(), options.pictures)
    rounds = [measure(learned, options.pictures) for _ in range(options.rounds)]
    seconds = {name: median(found[name] for found in rounds) for name in rounds[0]}
    facts = {
        "date": today(),
        "machine": machine(),
        "note": options.note,
        "pictures": options.pictures,
        "rounds": options.rounds,
        "steps": load_settings(learned / "config", learned).generation.steps,
        "seconds": seconds,
        "spread": {
            name: [min(r[name] for r in rounds), max(r[name] for r in rounds)] for name in seconds
        },
    }
    write_json(options.out / "workers.json", facts, digits=3)
    write_page(options.out, TEMPLATE, **json.loads((options.out / "workers.json").read_text()))


def learn(folder: Path, pictures: int) -> Path:
    """A home with the sample products in it and settings beside them; made once."""
    home = folder / f"learned-{pictures}"
    config, catalog = home / "config", home / "catalog"
    policies = {"singles_per_sku": 8, "pairs": pictures, "coverage": {"nights": 1}}
    changes: dict[str, dict[str, Any]] = {
        "catalogs": {"root": str(catalog), "settle_seconds": 0},
        "base_model": {"threads": 1},
        "learning": {
            "steps": STEPS,
            "gate_min_fidelity_share": -1.0,
            "gate_max_color_shift": 999.0,
        },
        "generation": {
            "mode": "learned",
            "policies": policies,
            "budget": {"max_images": pictures},
            "quality": {"attempts": 1},
        },
    }
    write_settings(config, changes)
    if not catalog.exists():
        write_sample_catalog(catalog)
    opened = open_home(load_settings(config, home / "home"))
    refresh_index(opened)
    for outcome in learn_concepts(opened):
        log.info("%s %s %s", outcome.sku, outcome.status, outcome.reason)
    return home


def measure(learned: Path, pictures: int) -> dict[str, float]:
    """One round: wall seconds of a night each way, and of two half nights at once."""
    found = {}
    for way in WAYS:
        (took,) = nights(learned, [(way, pictures)])
        found[way] = took
        log.info("%s: %.1f s", way, took)
    found["halves"] = max(nights(learned, [("local", pictures // 2)] * 2))
    log.info("two half nights at once: %.1f s", found["halves"])
    return found


def nights(learned: Path, asked: Sequence[tuple[str, int]]) -> list[float]:
    """Nights at once, each in a process of its own over a copy of the home."""
    running = []
    for number, (way, pictures) in enumerate(asked):
        home = learned.with_name(f"night-{number}")
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(learned, home)
        generation = home / "config" / "generation.yaml"
        text = generation.read_text("utf-8")
        (before,) = [line for line in text.splitlines() if "max_images" in line]
        generation.write_text(text.replace(before, f"  max_images: {pictures}"), "utf-8")
        command = [sys.executable, "-m", "tests.benchmarks.workers", "--night", str(home), way]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        running.append(
            subprocess.Popen(command, cwd=REPOSITORY, env=one_thread, stdout=subprocess.PIPE)
        )
    outputs = [process.communicate()[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    return [float(json.loads(output.splitlines()[-1])) for output in outputs]


def render(home: Path, way: str) -> float:
    """Wall seconds from the planned night to its staged rows, models and cluster included."""
    settings = load_settings(home / "config", home / "home")
    if way != "local":
        size = settings.execution.images.model_copy(update={"at_once": WAYS.index(way)})
        execution = settings.execution.model_copy(update={"engine": "ray", "images": size})
        settings = settings.model_copy(update={"execution": execution})
    opened = open_home(settings)
    plan = plan_night(opened, DAY)
    started = time.monotonic()
    report = render_night(opened, DAY)
    took = time.monotonic() - started
    assert report.rendered == len(plan.jobs) > 0
    return took


if __name__ == "__main__":
    main()
