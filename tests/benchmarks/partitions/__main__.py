"""How far one set of dynamic partitions goes: Dagster itself at 10,000 to 300,000 SKUs.

    python -m tests.benchmarks.partitions [--keys N ...] [--storage sqlite postgres] [--quick]

A real instance with the shipped ``dagster.yaml``, the real definitions, and a
``dagster-webserver`` on loopback that is asked what its own pages ask. Each size is a process,
an instance and a web server of its own. Writes ``partitions.md`` and ``partitions.json``; sizes
that are in the latter already keep their figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.harness.cells import read_json
from tests.benchmarks.harness.home import BUILD, add_report_options, make_parser
from tests.benchmarks.harness.report import machine, today, write_json, write_page
from tests.benchmarks.partitions.measure import measure_all
from tests.faults.postgres_server import find_programs, running_postgres

COMMAND = "python -m tests.benchmarks.partitions"
TEMPLATE = Path(__file__).with_name("partitions.md.j2")
SIZES = (10_000, 100_000, 200_000, 300_000)
QUICK = (100,)


def main() -> None:
    """Measure every size on every storage in a process of its own, then write the report."""
    options = command_line().parse_args()
    if options.one:
        write_json(options.one, measure_all(options.scratch, options.keys[0], options.shards))
        return
    out: Path = BUILD / "partitions" if options.quick else options.out
    sizes = options.keys or (QUICK if options.quick else SIZES)
    report = read_json(out / "partitions.json") or {"columns": []}
    columns = {(old["storage"], old["keys"], old["shards"]): old for old in report["columns"]}
    for storage in options.storage:
        for keys in sizes:
            columns[storage, keys, options.shards] = _measure(storage, keys, options.shards)
            facts = {"command": COMMAND, "date": today(), "machine": machine()}
            facts |= {"note": options.note, "columns": sorted(columns.values(), key=_place)}
            write_json(out / "partitions.json", facts, digits=3)
            write_page(out, TEMPLATE, **json.loads((out / "partitions.json").read_text("utf-8")))


def _place(column: dict[str, Any]) -> tuple[bool, int, int]:
    return column["storage"] != "sqlite", column["keys"], column["shards"]


def command_line() -> argparse.ArgumentParser:
    parser = make_parser("partitions", __doc__)
    add_report_options(parser)
    parser.add_argument("--keys", type=int, nargs="+", help=f"default: {SIZES}")
    parser.add_argument("--storage", nargs="+", choices=["sqlite", "postgres"], default=["sqlite"])
    parser.add_argument("--shards", type=int, default=1, help="among which the keys are divided")
    parser.add_argument("--quick", action="store_true", help="a hundred keys, to see that it runs")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser


def _measure(storage: str, keys: int, shards: int) -> dict[str, Any]:
    """One size, in a process whose memory is its own."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch, _storage(storage) as settings:
        (Path(scratch) / "storage.yaml").write_text(settings, "utf-8")
        result = Path(scratch) / "cells.json"
        command = [sys.executable, "-m", "tests.benchmarks.partitions", "--keys", str(keys)]
        command += ["--shards", str(shards), "--one", str(result), "--scratch", scratch]
        subprocess.run(command, check=True)
        cells = json.loads(result.read_text("utf-8"))
    load = round(os.getloadavg()[1], 1)
    size = {"storage": storage, "keys": keys, "shards": shards, "load_average": load}
    return {**size, "cells": cells}


@contextmanager
def _storage(name: str) -> Iterator[str]:
    """What ``dagster.yaml`` says of the storage."""
    if name == "sqlite":
        yield ""
        return
    programs = find_programs()
    if programs is None:
        raise SystemExit("no PostgreSQL here; install Debian's package postgresql")
    with running_postgres(programs) as url:
        yield json.dumps({"storage": {"postgres": {"postgres_url": url}}})


if __name__ == "__main__":
    main()
