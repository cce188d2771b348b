"""How far one set of dynamic partitions goes: Dagster itself at 10,000 to 300,000 SKUs.

    python -m tests.benchmarks.partitions [--keys N ...] [--storage sqlite postgres] [--quick]

A real instance with the shipped ``dagster.yaml``, the real definitions, and a
``dagster-webserver`` on loopback that is asked what its own pages ask. Each size is a process,
an instance and a web server of its own. Writes ``partitions.md`` and ``partitions.json``.
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
    home: Path = BUILD / "partitions" / ("quick" if options.quick else "full")
    home.mkdir(parents=True, exist_ok=True)
    sizes = options.keys or (QUICK if options.quick else SIZES)
    for storage in options.storage:
        for keys in sizes:
            _measure(home, storage, keys, options.shards)
    out = home if options.quick else options.out
    found = [json.loads(path.read_text("utf-8")) for path in sorted(home.glob("*-*.json"))]
    facts = {"command": COMMAND, "date": today(), "machine": machine(), "note": options.note}
    facts["columns"] = sorted(
        found, key=lambda size: (size["storage"] != "sqlite", size["keys"], size["shards"])
    )
    write_json(out / "partitions.json", facts, digits=3)
    write_page(out, TEMPLATE, **json.loads((out / "partitions.json").read_text("utf-8")))


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


def _measure(home: Path, storage: str, keys: int, shards: int) -> None:
    """One size, in a process whose memory is its own; what was measured before is replaced."""
    result = home / f"{storage}-{keys}-{shards}.json"
    with tempfile.TemporaryDirectory(dir=home) as scratch, _storage(storage) as settings:
        (Path(scratch) / "storage.yaml").write_text(settings, "utf-8")
        command = [sys.executable, "-m", "tests.benchmarks.partitions", "--keys", str(keys)]
        command += ["--shards", str(shards), "--one", str(result), "--scratch", scratch]
        subprocess.run(command, check=True)
    record = json.loads(result.read_text("utf-8"))
    size = {"storage": storage, "keys": keys, "shards": shards}
    load = round(os.getloadavg()[1], 1)
    write_json(result, {**size, "load_average": load, "cells": record})


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
