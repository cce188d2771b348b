"""The generation benchmark: scenes of two and three learned products, six methods, same seeds.

    python -m tests.benchmarks.generation learn --data DIR [--learned HOME]
    python -m tests.benchmarks.generation run --data DIR [--suite NAME ...] [--gate]
    python -m tests.benchmarks.generation attention [--modes MODE ...] [--seeds 3]
    python -m tests.benchmarks.generation rejudge [--suite NAME ...]
    python -m tests.benchmarks.generation report [--out docs/benchmarks]
    python -m tests.benchmarks.generation attention-report [--out docs/benchmarks]

``learn`` makes a home of 24 learned products with the ordinary workflows, ``run`` paints and
judges every unfinished cell, ``attention`` compares attention control off and on, ``rejudge``
judges the pictures kept again (after a change of the judge), the reports write the tables. Stop
each whenever you like; it goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from catalog_pipeline.settings import Settings, load_settings
from catalog_pipeline.workflows.home import open_home
from tests.benchmarks.generation.scenes import COMPARED, MODES, SUITES, draw_scenes
from tests.benchmarks.harness.cells import json_bytes
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
HOUSEHOLD = (170, 311, 496, 554)
"""Numbers in the household catalog: a chair, a dispenser, a bar table, a christmas tree."""
EVERYTHING = (*SUITES, "speed", "detector")
QUICK = {"pairs": 4, "triples": 2, "same_class": 2, "swaps": 2}
QUICK_PRODUCTS = ("MUG-ZIGZAG-01", "MUG-HEARTS-01", "BACKPACK-STAR-01", "ROBOT-STAR-01")
QUICK_LEARNING = {
    "steps": 30,
    "gate_min_fidelity_share": -1.0,
    "gate_max_color_shift": 999.0,
    "gate_max_forgetting": 9.0,
}
SPEED_ROUNDS = 5

log = logging.getLogger("bench")


def main() -> None:
    options = command_line().parse_args()
    log_to_stdout()
    commands = {
        "learn": learn,
        "run": run,
        "attention": attention,
        "rejudge": judge_again,
        "report": report,
        "attention-report": attention_report,
    }
    commands[options.command](options)


def command_line() -> argparse.ArgumentParser:
    parser = make_parser("generation", __doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--home", type=Path, default=BUILD / "generation", help="where results are kept"
    )
    common.add_argument("--learned", type=Path, help="a learned home (default: HOME/home)")
    common.add_argument("--quick", action="store_true", help="few scenes, to see that it runs")
    common.add_argument("--suite", nargs="+", choices=EVERYTHING, default=list(EVERYTHING))
    commands = parser.add_subparsers(dest="command", required=True)

    learner = commands.add_parser("learn", parents=[common], help="learn the 24 products")
    learner.add_argument("--data", type=Path, required=True, help="photos/ and household_catalog/")
    learner.add_argument("--only", nargs="+", metavar="SKU", help="these products alone")
    runner = commands.add_parser("run", parents=[common], help="paint and judge")
    runner.add_argument("--data", type=Path, help="of the suite detector: folder with photos/")
    runner.add_argument("--methods", nargs="+", default=(), help="default: all of them")
    runner.add_argument("--count", type=int, help="scenes a set, in place of its own number")
    runner.add_argument("--gate", action="store_true", help="also repaint what `ours` failed")
    runner.add_argument("--threads", type=int, default=2, help="of the suite speed")
    pairer = commands.add_parser("attention", parents=[common], help="attention control off and on")
    pairer.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    pairer.add_argument("--methods", nargs="+", default=COMPARED)
    pairer.add_argument("--seeds", type=int, default=3)
    pairer.add_argument("--count", type=int, help="scenes a kind, in place of its own number")
    commands.add_parser("rejudge", parents=[common], help="judge the pictures kept again")
    for name in ("report", "attention-report"):
        reporter = commands.add_parser(name, parents=[common], help="write tables and sheets")
        add_report_options(reporter)
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
    changes = {"catalogs": {"root": "products", "settle_seconds": 0}}
    if options.quick:
        changes["learning"] = QUICK_LEARNING
    write_settings(home / "config", changes)
    products = home / "products"
    write_sample_catalog(products, QUICK_PRODUCTS if options.quick else None)
    if not options.quick:
        write_real_products(options.data, products, REAL_PRODUCTS)
        write_household(options.data, products, HOUSEHOLD)
    settings = learned_settings(options)
    refresh_index(open_home(settings))
    for outcome in learn_concepts(open_home(settings), options.only):
        log.info("%s %s %s", outcome.sku, outcome.status, outcome.reason)


def run(options: argparse.Namespace) -> None:
    """Every unfinished cell of the chosen suites."""
    from tests.benchmarks.generation.cells import run_suite
    from tests.benchmarks.generation.detector import PER_KIND, measure_detector
    from tests.benchmarks.generation.judging import open_judge
    from tests.benchmarks.generation.methods import METHODS, Workbench
    from tests.benchmarks.generation.speed import measure_speed

    home: Path = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    bench = Workbench(learned_settings(options))
    quality = bench.settings.generation.quality
    gate = (quality.attempts, quality.strength_factor) if options.gate else None
    for suite in options.suite:
        log.info("suite %s", suite)
        if suite == "speed":
            measure_speed(home, bench, 1 if options.quick else SPEED_ROUNDS, options.threads)
        elif suite == "detector":
            if options.data is None:
                raise SystemExit("the suite detector needs real photos: give --data DIR")
            out = home / "detector"
            measure_detector(options.data, home, out, per_kind=2 if options.quick else PER_KIND)
        else:
            count = options.count or (QUICK if options.quick else SUITES)[suite]
            scenes = draw_scenes(suite, bench.classes, count)
            judge = open_judge(suite, bench)
            if suite == "swaps":
                calibrate_colours(home, judge, options.quick)
            methods = tuple(options.methods) or tuple(METHODS)
            run_suite(
                home, suite, scenes, methods, bench, judge, None if suite == "swaps" else gate
            )


def attention(options: argparse.Namespace) -> None:
    """Every unfinished cell of attention control."""
    from tests.benchmarks.generation.attention import run_attention
    from tests.benchmarks.generation.methods import Workbench

    run_attention(
        options.home.resolve(),
        Workbench(learned_settings(options)),
        modes=options.modes,
        methods=options.methods,
        seeds=options.seeds,
        count=options.count or (2 if options.quick else None),
    )


def calibrate_colours(home: Path, judge: object, quick: bool) -> None:
    """How often the judge of colours is right, once a home."""
    from tests.benchmarks.generation.colours import ColourJudge, calibrate

    target = home / "colour_judge.json"
    if not target.exists() and isinstance(judge, ColourJudge):
        figures = calibrate(judge, 6 if quick else 100)
        target.write_bytes(json_bytes(figures))
        log.info("judge of colours: %s", figures)


def judge_again(options: argparse.Namespace) -> None:
    """New verdicts on the pictures kept."""
    from tests.benchmarks.generation.cells import rejudge
    from tests.benchmarks.generation.judging import open_judge
    from tests.benchmarks.generation.methods import Workbench

    home: Path = options.home.resolve()
    bench = Workbench(learned_settings(options))
    for suite in (name for name in options.suite if name in SUITES):
        judge = open_judge(suite, bench)
        if suite == "swaps":
            (home / "colour_judge.json").unlink(missing_ok=True)
            calibrate_colours(home, judge, options.quick)
        log.info("%s: %d verdicts changed", suite, rejudge(home, suite, judge))


def report(options: argparse.Namespace) -> None:
    from tests.benchmarks.generation.report import write_report

    products = learned_settings(options).catalog_root
    write_report(options.home.resolve(), options.out, products, options.note)
    log.info("written: %s", options.out / "generation.md")


def attention_report(options: argparse.Namespace) -> None:
    from tests.benchmarks.generation.attention_report import write_attention_report

    products = learned_settings(options).catalog_root
    write_attention_report(options.home.resolve(), options.out, products, options.note)
    log.info("written: %s", options.out / "attention.md")


if __name__ == "__main__":
    main()
