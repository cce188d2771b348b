"""The stores at scale: index, sensor, manifest, versions, in a folder and on a real S3 server.

    python -m tests.benchmarks.stores [--quick] [--section NAME ...] [--out docs/benchmarks]

Makes everything up in a scratch folder under ``--home``, measures it, and writes
``stores.md`` and ``stores.json``. ``--section`` measures some sections again and keeps the
figures of the others.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from catalog_pipeline.settings import ArchiveSettings, Settings
from tests.benchmarks.harness.cells import json_bytes, read_json
from tests.benchmarks.harness.home import BUILD, DOCS, log_to_stdout, make_parser
from tests.benchmarks.stores.archive import measure_publishing, measure_queries, measure_verify
from tests.benchmarks.stores.catalog import measure_catalog
from tests.benchmarks.stores.growth import Growth, measure_growth
from tests.benchmarks.stores.made_up import FULL, QUICK, Sizes
from tests.benchmarks.stores.measurement import Measurement
from tests.benchmarks.stores.report import where, write_report
from tests.benchmarks.stores.versions import measure_heads, measure_history
from tests.s3_server import running_s3_server

Section = Callable[[Path, Sizes], Iterator[Measurement | Growth]]


def main() -> None:
    """Measure the chosen sections and write the report of all that were ever measured."""
    options = command_line().parse_args()
    log_to_stdout()
    home: Path = options.home.resolve() / ("quick" if options.quick else "full")
    results = home / "results"
    results.mkdir(parents=True, exist_ok=True)
    for name in options.section or SECTIONS:
        with tempfile.TemporaryDirectory(dir=home, prefix=f"{name}-") as scratch:
            found = list(SECTIONS[name](Path(scratch), QUICK if options.quick else FULL))
        content = {"machine": where(), "measurements": [each.to_record() for each in found]}
        (results / f"{name}.json").write_bytes(json_bytes(content))
    found = {name: read_json(results / f"{name}.json") for name in SECTIONS}
    sections = {name: section for name, section in found.items() if section is not None}
    write_report(options.out or (home if options.quick else DOCS), sections, options.note)


def command_line() -> argparse.ArgumentParser:
    parser = make_parser("stores", __doc__)
    parser.add_argument("--home", type=Path, default=BUILD / "stores")
    parser.add_argument("--out", type=Path, help="default: docs/benchmarks; quick: the home")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--section", nargs="+", choices=list(SECTIONS), help="default: all")
    parser.add_argument("--note", default="", help="what a reader of the table must know")
    return parser


def _catalog(folder: Path, sizes: Sizes) -> Iterator[Measurement]:
    yield from measure_catalog(folder, sizes)


def _manifest(folder: Path, sizes: Sizes) -> Iterator[Measurement]:
    yield from measure_queries(folder, sizes)


def _publish(folder: Path, sizes: Sizes) -> Iterator[Measurement]:
    yield from measure_publishing(_local(folder / "publish"), "folder", sizes)
    yield from measure_verify(_local(folder / "verify"), sizes)


def _versions(folder: Path, sizes: Sizes) -> Iterator[Measurement]:
    yield from measure_heads(_local(folder / "heads"), "folder", sizes)
    yield from measure_history(_local(folder / "history"), sizes)


def _growth(folder: Path, sizes: Sizes) -> Iterator[Growth]:
    yield from measure_growth(folder, sizes)


def _s3(folder: Path, sizes: Sizes) -> Iterator[Measurement]:
    seaweedfs = folder / "seaweedfs"
    seaweedfs.mkdir()
    with running_s3_server(seaweedfs) as server:
        os.environ |= server.environment

        def bucket(prefix: str) -> Settings:
            archive = ArchiveSettings(s3=server.settings(prefix))
            return Settings(home=folder, config_dir=folder, archive=archive)

        yield from measure_publishing(bucket("publish"), "S3", sizes)
        yield from measure_heads(bucket("heads"), "S3", sizes)


def _local(home: Path) -> Settings:
    return Settings(home=home, config_dir=home)


SECTIONS: dict[str, Section] = {
    "catalog": _catalog,
    "manifest": _manifest,
    "publish": _publish,
    "versions": _versions,
    "s3": _s3,
    "growth": _growth,
}


if __name__ == "__main__":
    main()
