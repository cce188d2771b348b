"""The stores at scale: index, sensor, manifest, versions, in a folder and on a real S3 server.

    python -m tests.benchmarks.stores [--quick] [--section NAME ...] [--out docs/benchmarks]

Makes everything up in a scratch folder under ``--home``, measures it, and writes
``stores.md`` and ``stores.json``. ``--section`` measures some sections again and keeps the
figures of the others.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from catalog_pipeline.settings import ArchiveSettings, Settings
from tests.benchmarks.stores.archive import measure_publishing, measure_queries, measure_verify
from tests.benchmarks.stores.catalog import measure_catalog
from tests.benchmarks.stores.measurement import Measurement
from tests.benchmarks.stores.report import machine, write_report
from tests.benchmarks.stores.sizes import FULL, QUICK, Sizes
from tests.benchmarks.stores.versions import measure_heads, measure_history
from tests.conftest import running_s3_server

REPOSITORY = Path(__file__).resolve().parents[3]
Section = Callable[[Path, Sizes], Iterator[Measurement]]


def main() -> None:
    """Measure the chosen sections and write the report of all that were ever measured."""
    options = make_parser().parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("tests.benchmarks.stores").setLevel(logging.INFO)
    home: Path = options.home.resolve() / ("quick" if options.quick else "full")
    results = home / "results"
    results.mkdir(parents=True, exist_ok=True)
    for name in options.section or SECTIONS:
        with tempfile.TemporaryDirectory(dir=home, prefix=f"{name}-") as scratch:
            found = list(SECTIONS[name](Path(scratch), QUICK if options.quick else FULL))
        content = {"machine": machine(), "measurements": [each.to_record() for each in found]}
        (results / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    sections = {
        name: json.loads((results / f"{name}.json").read_text("utf-8"))
        for name in SECTIONS
        if (results / f"{name}.json").exists()
    }
    write_report(options.out or (home if options.quick else DOCS), sections, options.note)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.stores",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--home", type=Path, default=REPOSITORY / "build" / "stores")
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


def _s3(folder: Path, sizes: Sizes) -> Iterator[Measurement]:
    seaweedfs = folder / "seaweedfs"
    seaweedfs.mkdir()
    with running_s3_server(seaweedfs) as server:
        os.environ["AWS_ACCESS_KEY_ID"] = server.access_key
        os.environ["AWS_SECRET_ACCESS_KEY"] = server.secret_key
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

        def bucket(prefix: str) -> Settings:
            archive = ArchiveSettings(s3=server.settings(prefix))
            return Settings(home=folder, config_dir=folder, archive=archive)

        yield from measure_publishing(bucket("publish"), "S3", sizes)
        yield from measure_heads(bucket("heads"), "S3", sizes)


def _local(home: Path) -> Settings:
    return Settings(home=home, config_dir=home)


DOCS = REPOSITORY / "docs" / "benchmarks"
SECTIONS: dict[str, Section] = {
    "catalog": _catalog,
    "manifest": _manifest,
    "publish": _publish,
    "versions": _versions,
    "s3": _s3,
}


if __name__ == "__main__":
    main()
