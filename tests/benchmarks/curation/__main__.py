"""The curation benchmark: which bad photos are found among good ones, and what that is worth.

    python -m tests.benchmarks.curation pick --data DIR [--rounds 2]
    python -m tests.benchmarks.curation learn --data DIR
    python -m tests.benchmarks.curation report [--out docs/benchmarks]

``pick`` spoils real and household products' photos by a seed and curates every set, ``learn``
learns products from clean, polluted and curated photos, ``report`` writes the page. ``pick`` also
writes a sheet of what was left out wrongly or missed.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from catalog_pipeline.settings import CatalogSettings
from tests.benchmarks.curation.report import mistakes_sheet, rows_of, write_report
from tests.benchmarks.harness.cells import json_bytes
from tests.benchmarks.harness.home import BUILD, add_report_options, log_to_stdout, make_parser

HOUSEHOLD = (9, 69, 129, 189, 249, 309, 369, 429, 19, 79, 139, 199, 259, 319, 379, 439)
"""Places in the household catalog; what went wrong on them changed limits and rules."""
HELD_OUT = (29, 89, 149, 209, 269, 329, 389, 449)
"""Others, of which nothing was looked at before."""

log = logging.getLogger("bench")


def main() -> None:
    parser = make_parser("curation", __doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, default=BUILD / "curation")
    commands = parser.add_subparsers(dest="command", required=True)
    picker = commands.add_parser("pick", parents=[common], help="spoil, curate, count")
    picker.add_argument("--data", type=Path, required=True, help="photos/ and household_catalog/")
    picker.add_argument("--rounds", type=int, default=2)
    learner = commands.add_parser("learn", parents=[common], help="clean, polluted, curated")
    learner.add_argument("--data", type=Path, required=True)
    learner.add_argument("--products", nargs="+")
    add_report_options(commands.add_parser("report", parents=[common], help="write the page"))
    options = parser.parse_args()
    log_to_stdout()
    {"pick": pick, "learn": learn, "report": report}[options.command](options)


def real_products(data: Path) -> dict[str, list[Path]]:
    folders = sorted(path for path in (data / "photos").iterdir() if path.is_dir())
    return {folder.name: sorted(folder.glob("*.jpg")) for folder in folders}


def household_products(data: Path, places: Sequence[int]) -> dict[str, list[Path]]:
    renders = data / "household_catalog"
    catalog = json.loads((renders / "catalog.json").read_text("utf-8"))
    return {
        f"household-{catalog[place]['id']}": [
            renders / "views" / view for view in catalog[place]["views"]
        ]
        for place in places
    }


def pick(options: argparse.Namespace) -> None:
    """Judge every set and keep the verdicts."""
    from tests.benchmarks.curation.duplicates import compare_duplicates
    from tests.benchmarks.curation.trials import (
        clean_trials,
        hand_views,
        polluted_trials,
        read_views,
    )

    settings = CatalogSettings()
    real = real_products(options.data)
    views = {"real": read_views(real, settings)}
    log.info("real photos read")
    hands = hand_views(views["real"], real)
    for name, places in (("household", HOUSEHOLD), ("held_out", HELD_OUT)):
        views[name] = read_views(household_products(options.data, places), settings)
    log.info("household photos read")
    options.home.mkdir(parents=True, exist_ok=True)
    limit = settings.curation.near_duplicate
    duplicates = {name: compare_duplicates(products, limit) for name, products in views.items()}
    (options.home / "duplicates.json").write_bytes(json_bytes(duplicates))
    log.info("ways to find duplicates compared")
    for name, products in views.items():
        verdicts = list(clean_trials(products, settings))
        log.info("%s: clean sets judged", name)
        verdicts += polluted_trials(products, hands, settings, options.rounds)
        log.info("%s: %d photos judged", name, len(verdicts))
        (options.home / f"{name}.json").write_bytes(json_bytes(rows_of(verdicts)))
        mistakes_sheet(verdicts).save(options.home / f"{name}-mistakes.png")


def learn(options: argparse.Namespace) -> None:
    from tests.benchmarks.curation.learned import learn_three_ways

    learn_three_ways(options.data, options.home.resolve(), options.products)


def report(options: argparse.Namespace) -> None:
    write_report(options.home, options.out, options.note)
    log.info("written: %s", options.out / "curation.md")


if __name__ == "__main__":
    main()
