"""The fidelity benchmark: is a product in a picture the product.

    python -m tests.benchmarks.fidelity learn --data DIR
    python -m tests.benchmarks.fidelity run [--suite NAME ...]
    python -m tests.benchmarks.fidelity blind
    python -m tests.benchmarks.fidelity report [--out docs/benchmarks]

``learn`` makes a home of 12 real, 8 studio and 12 household products with the ordinary
workflows, ``run`` paints every scene in every way and measures it, ``blind`` writes the pairs to
judge by eye, ``report`` writes table and sheet. Stop each whenever you like; it goes on.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from catalog_pipeline.settings import Settings, load_settings
from catalog_pipeline.workflows.home import open_home
from tests.benchmarks.fidelity.paint import VARIANTS
from tests.benchmarks.fidelity.scenes import SUITES
from tests.benchmarks.harness.home import (
    BUILD,
    add_report_options,
    log_to_stdout,
    make_parser,
    write_household,
    write_real_products,
    write_settings,
)

REAL_PRODUCTS = 12
HOUSEHOLD = (29, 59, 195, 246, 250, 280, 336, 339, 472, 546, 551, 721)
"""Numbers in the household catalog: thin legs, glass, white things and printed ones among them."""
QUICK_LEARNING = {"steps": 30}
NO_GATE = {
    "gate_min_fidelity_share": -1.0,
    "gate_max_color_shift": 999.0,
    "gate_max_forgetting": 9.0,
}

log = logging.getLogger("bench")


def main() -> None:
    options = command_line().parse_args()
    log_to_stdout()
    {"learn": learn, "run": run, "blind": blind, "report": report}[options.command](options)


def command_line() -> argparse.ArgumentParser:
    parser = make_parser("fidelity", __doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, default=BUILD / "fidelity")
    common.add_argument("--learned", type=Path, help="a learned home (default: HOME/home)")
    common.add_argument("--quick", action="store_true", help="studio only, few scenes")
    common.add_argument("--suite", nargs="+", choices=(*SUITES, "labels", "speed"))
    commands = parser.add_subparsers(dest="command", required=True)
    learner = commands.add_parser("learn", parents=[common], help="learn the 32 products")
    learner.add_argument("--data", type=Path, required=True, help="photos/ and household_catalog/")
    runner = commands.add_parser("run", parents=[common], help="paint and measure")
    runner.add_argument("--data", type=Path, help="for the suite of labels")
    runner.add_argument("--anew", nargs="+", choices=VARIANTS, help="repaint these alone")
    commands.add_parser("blind", parents=[common], help="write the pairs to judge by eye")
    add_report_options(commands.add_parser("report", parents=[common], help="write the tables"))
    return parser


def learned_settings(options: argparse.Namespace) -> Settings:
    home: Path = (options.learned or options.home / "home").resolve()
    return load_settings(home / "config", home)


def learn(options: argparse.Namespace) -> None:
    """Write the products and learn whatever is not learned yet."""
    from catalog_pipeline.studio.sample_catalog import write_sample_catalog
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
    from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts

    home: Path = (options.learned or options.home / "home").resolve()
    # The gate is for catalogs; here a poorly learned product is a figure like the others.
    changes = {
        "catalogs": {"root": "products", "settle_seconds": 0},
        "learning": NO_GATE | (QUICK_LEARNING if options.quick else {}),
    }
    write_settings(home / "config", changes)
    write_sample_catalog(home / "products")
    if not options.quick:
        write_real_products(options.data, home / "products", REAL_PRODUCTS)
        write_household(options.data, home / "products", HOUSEHOLD)
    settings = learned_settings(options)
    refresh_index(open_home(settings))
    for outcome in learn_concepts(open_home(settings)):
        log.info("%s %s %s", outcome.sku, outcome.status, outcome.reason)


def run(options: argparse.Namespace) -> None:
    """Every scene that is not measured yet."""
    from tests.benchmarks.fidelity.cells import Bench

    bench = Bench(options.home.resolve(), learned_settings(options))
    for suite in options.suite or (*SUITES, "labels", "speed"):
        if suite == "speed":
            bench.measure_speed(rounds=1 if options.quick else 5)
        elif suite == "labels":
            if options.data is not None:
                bench.measure_labels(options.data)
        elif options.anew:
            bench.repaint(suite, options.anew)
        else:
            bench.run_suite(suite, 2 if options.quick else None)


def blind(options: argparse.Namespace) -> None:
    """The sheets to judge, in ``HOME/blind``."""
    from tests.benchmarks.fidelity.blind import write_sheets

    write_sheets(options.home.resolve(), options.home.resolve() / "blind")


def report(options: argparse.Namespace) -> None:
    from tests.benchmarks.fidelity.report import write_report

    home: Path = options.home.resolve()
    products = (options.learned or home / "home").resolve() / "products"
    write_report(home, options.out, products, options.note)
    log.info("written: %s", options.out / "fidelity.md")


if __name__ == "__main__":
    main()
