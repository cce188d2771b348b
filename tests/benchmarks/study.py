"""Both studies over household products: docs/benchmarks/study.{md,json}.

Writes the household catalog as product folders with categories, runs ``study granularity`` and
``study frequency`` over some of it, and turns what they found into the page. Run it again after a
stop: what is done stays done.

    python -m tests.benchmarks.study --data DIR [--home build/study] [--quick]
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from catalog_pipeline.cli.progress import open_progress
from catalog_pipeline.settings import load_settings
from catalog_pipeline.workflows.evaluate.study import Study, StudyOptions, run_study
from tests.benchmarks.harness.home import (
    BUILD,
    add_report_options,
    make_parser,
    write_product,
    write_settings,
)
from tests.benchmarks.harness.report import machine, today, write_json, write_page

TEMPLATE = Path(__file__).with_name("study.md.j2")
REDUCED: dict[str, dict[str, Any]] = {
    "learning": {
        "latent_views": 8,
        "prior_images": 4,
        "replay_candidates": 2,
        "replay_exemplars": 2,
        "replay_concepts": 3,
    },
    "generation": {"mode": "learned"},
}
"""Of the shipped settings, so that it ends within an hour; the page says so."""

GRANULARITY = StudyOptions(skus=24, categories=4, images=3, steps=20)
FREQUENCY = StudyOptions(skus=6, categories=3, images=3, steps=15)
QUICK = StudyOptions(skus=4, categories=2, images=2, steps=5)


def main() -> None:
    parser = make_parser("study", __doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=BUILD / "study")
    parser.add_argument("--quick", action="store_true", help="4 products, 5 steps")
    parser.add_argument("--study", choices=("granularity", "frequency"), help="one alone; no page")
    parser.add_argument("--steps", type=int, help="of a concept, in place of 20 and 15")
    parser.add_argument("--equal-steps", action="store_true", help="as of `study`; a third longer")
    add_report_options(parser)
    options = parser.parse_args()
    write_catalog(options.data, options.home / "catalog")
    write_settings(options.home / "config", REDUCED)
    found = {
        name: run(name, options)
        for name in ("granularity", "frequency")
        if options.study in (None, name)
    }
    if options.study is None:
        report(found, options)


def write_catalog(data: Path, root: Path) -> None:
    """Every household product, with its category; what is there stays."""
    renders = data / "household_catalog"
    for product in json.loads((renders / "catalog.json").read_text("utf-8")):
        folder = root / f"household-{int(product['id']):04d}"
        views = [renders / "views" / view for view in product["views"]]
        write_product(folder, views, product["name"].lower(), {"ja": product["name_ja"]})
        path = folder / "sku.yaml"
        card = yaml.safe_load(path.read_text("utf-8"))
        if "category" not in card:
            card["category"] = product["category"]
            path.write_text(yaml.safe_dump(card, allow_unicode=True), "utf-8")


def run(study: Study, options: argparse.Namespace) -> dict[str, Any]:
    """One study as its record, with the seconds of this run by the clock."""
    asked = QUICK if options.quick else GRANULARITY if study == "granularity" else FREQUENCY
    given = asdict(asked) | {"equal_steps": options.equal_steps}
    asked = StudyOptions(**(given | ({"steps": options.steps} if options.steps else {})))
    settings = load_settings(options.home / "config", options.home / "unused")
    started = time.monotonic()
    with open_progress() as progress:
        written = run_study(
            settings, study, options.home / "catalog", options.home, asked, progress=progress
        )
    seconds = time.monotonic() - started
    print(f"{study}: {seconds:.0f} s by the clock in this run; {written.paths['page']}", flush=True)
    return written.report.to_record() | {"clock_seconds": round(seconds)}


def report(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """``study.json`` and ``study.md``."""
    for record in found.values():
        del record["facts"]["catalog"]  # a folder of this machine
    flags = " --quick" * options.quick + " --equal-steps" * options.equal_steps
    steps = f" --steps {options.steps}" if options.steps else ""
    facts = {
        "date": today(),
        "machine": f"{machine()}, no accelerator",
        "command": f"python -m tests.benchmarks.study --data {shlex.quote('DIR')}{flags}{steps}",
        "note": options.note,
        "reduced": REDUCED["learning"],
        "studies": found,
    }
    write_json(options.out / "study.json", facts, digits=4)
    write_page(options.out, TEMPLATE, shown=shown, **facts)


def shown(interval: dict[str, Any] | None) -> str:
    """``0.612 (0.55 to 0.67)``; a dash for none."""
    if interval is None:
        return "–"
    low, high = interval["low"], interval["high"]
    ends: Sequence[float] = () if low is None or high is None else (low, high)
    return f"{interval['mean']:.3f}" + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else "")


if __name__ == "__main__":
    main()
