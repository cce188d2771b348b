"""The lifelong-learning benchmark: methods on the same photos, base, steps and seeds.

    python -m tests.benchmarks.learning run --suite main --data DIR [--home build/learning]
    python -m tests.benchmarks.learning report [--home build/learning] [--out docs/benchmarks]
    python -m tests.benchmarks.learning remeasure --data DIR [--home build/learning]

``run`` goes through every unfinished cell; stop it whenever you like, the next one goes on
after the last finished task. ``report`` writes what the home holds. ``remeasure`` brings
finished cells to the present definitions, as far as their pictures tell.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.harness.home import BUILD, add_report_options, log_to_stdout, make_parser
from tests.benchmarks.learning.suites import SUITES

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder


def main() -> None:
    options = command_line().parse_args()
    log_to_stdout()
    if options.command == "run":
        run(options)
    elif options.command == "remeasure":
        measure_again(options)
    else:
        from tests.benchmarks.learning.report import write_report

        write_report(options.home, options.out, note=options.note)


def command_line() -> argparse.ArgumentParser:
    parser = make_parser("learning", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    home = BUILD / "learning"

    runner = commands.add_parser("run", help="run every unfinished cell of the suites")
    runner.add_argument("--data", type=Path, required=True, help="folder with photos/")
    runner.add_argument("--home", type=Path, default=home, help="where all results are kept")
    runner.add_argument("--suite", action="append", choices=list(SUITES), help="default: main")
    runner.add_argument("--only", nargs="+", default=(), help="these rows or methods of the suite")
    runner.add_argument("--methods", nargs="+", default=(), help="these in place of the rows")
    runner.add_argument("--seeds", nargs="+", type=int, default=(), help="default: the suite's")
    runner.add_argument("--orders", nargs="+", type=int, default=(), help="default: the suite's")
    runner.add_argument("--steps", type=int, help="optimiser steps a product")
    runner.add_argument("--images", type=int, help="pictures a concept and measurement")
    runner.add_argument("--sampler-steps", type=int, help="of every picture")
    runner.add_argument("--products", type=int, help="the first N products of the suite")
    runner.add_argument("--full-matrix", action="store_true", help="measure all after every task")
    runner.add_argument("--base-model", default="embedded", help="or a diffusers folder")
    _add_encoder(runner)
    runner.add_argument("--list", action="store_true", help="show the cells, run nothing")

    again = commands.add_parser("remeasure", help="bring finished cells to the present measures")
    again.add_argument("--data", type=Path, required=True, help="folder with photos/")
    again.add_argument("--home", type=Path, default=home)
    _add_encoder(again)

    reporter = commands.add_parser("report", help="write learning.md, learning.json and pictures")
    reporter.add_argument("--home", type=Path, default=home)
    add_report_options(reporter)
    return parser


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder",
        action="append",
        default=[],
        metavar="DIR",
        help="judge by this CLIP or DINO folder too; repeatable",
    )


def open_encoders(folders: Sequence[str]) -> dict[str, FeatureEncoder]:
    """The packaged encoders and those in ``folders``, by names that their features depend on."""
    from catalog_pipeline.evaluation.features import (
        PACKAGED_ENCODERS,
        encoder_identity,
        open_encoder,
    )

    return {encoder_identity(name): open_encoder(name) for name in (*PACKAGED_ENCODERS, *folders)}


def measure_again(options: argparse.Namespace) -> None:
    """Text following and confusion of finished cells, where their definitions have changed."""
    from tests.benchmarks.learning.products import ProductShelf
    from tests.benchmarks.learning.remeasure import remeasure

    home: Path = options.home.resolve()
    encoders = open_encoders(options.encoder)
    changed = remeasure(home, ProductShelf(options.data.resolve(), home, encoders), encoders)
    logging.info("%d cells measured again", changed)


def run(options: argparse.Namespace) -> None:
    from catalog_pipeline.learning.methods.registry import METHODS
    from catalog_pipeline.settings import BaseModelSettings
    from catalog_pipeline.workflows.models import base_model_hash
    from tests.benchmarks.learning.cells import Choice, choose_cells
    from tests.benchmarks.learning.products import ProductShelf
    from tests.benchmarks.learning.runner import Bench, run_cells
    from tests.benchmarks.learning.together import Together

    home: Path = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    base = BaseModelSettings(base_model=options.base_model)
    encoders = open_encoders(options.encoder)
    shelf = ProductShelf(options.data.resolve(), home, encoders)
    choice = Choice(
        only=tuple(options.only),
        methods=tuple(options.methods),
        seeds=tuple(options.seeds),
        orders=tuple(options.orders),
        steps=options.steps,
        images=options.images,
        sampler_steps=options.sampler_steps,
        products=options.products,
        full_matrix=options.full_matrix,
    )
    base_hash = base_model_hash(base)
    suites = [SUITES[name] for name in options.suite or ["main"]]
    cells = [c for s in suites for c in choose_cells(s, shelf.names(s), base_hash, choice)]
    if options.list:
        for cell in cells:
            print(f"{cell.folder}: {len(cell.products)} products, {cell.sizes}")
        return
    bench = Bench(home, base, encoders, shelf, {**METHODS, "together": Together})
    logging.info("%d cells in %s", len(cells), home)
    ran = run_cells(bench, cells)
    logging.info("%d cells run to the end; `report` writes the tables", ran)


if __name__ == "__main__":
    main()
