"""Learning and pictures on an NVIDIA card: ours, diffusers', and the card's own limit.

    python -m tests.benchmarks.gpu [--only NAME ...] [--out docs/benchmarks]
    python -m tests.benchmarks.gpu --dry-run     tiny models on a CPU, nothing is written
    python -m tests.benchmarks.gpu --cpu         small models on a CPU, the page's last part

Needs no model: weights are random and built on the device. Writes ``gpu.md`` and ``gpu.json``;
what was measured on the other kind of device stays in them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

from tests.benchmarks.gpu.accelerated import settings_at_hand
from tests.benchmarks.gpu.floor import measure_peaks
from tests.benchmarks.gpu.report import section, tables, where, write_report
from tests.benchmarks.gpu.runner import Bench, Rounds
from tests.benchmarks.gpu.sizes import FULL
from tests.benchmarks.gpu.small_sizes import MIDDLE, TINY
from tests.benchmarks.harness.home import DOCS, log_to_stdout, make_parser

_log = logging.getLogger(__name__)

NEEDS_CUDA = (
    "make bench-gpu needs an NVIDIA card, and torch sees none; `python -m tests.benchmarks.gpu "
    "--dry-run` runs all of it with tiny models on a CPU and writes nothing"
)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write the page unless it is a dry run."""
    options = command_line().parse_args(arguments)
    on_cpu = options.cpu or options.dry_run
    if not on_cpu and not torch.cuda.is_available():
        sys.exit(NEEDS_CUDA)
    log_to_stdout()
    if on_cpu:
        torch.set_num_threads(1)
    device = torch.device("cpu" if on_cpu else "cuda")
    dtype = torch.float32 if on_cpu else torch.bfloat16
    sizes, rounds = FULL, Rounds()
    if options.dry_run:
        sizes, rounds = TINY, Rounds(steps=1, pictures=1, warm_up=1)
    elif options.cpu:
        sizes, rounds = MIDDLE, Rounds(steps=options.rounds, pictures=options.rounds, warm_up=1)
    sides, copied = ((1024,), 1 << 26) if on_cpu else ((4096, 8192), 1 << 30)
    peaks = measure_peaks(device, dtype, (128,) if options.dry_run else sides, copied)
    # A compiler takes minutes, and on a CPU what it gains says nothing of a card.
    settings = [name for name in settings_at_hand() if name != "compile" or not on_cpu]
    bench = Bench(device, dtype, peaks, rounds, options.seed, settings)
    chosen = [size for size in sizes if not options.only or size.name in options.only]
    rows = [row for size in chosen for row in bench.measure(size)]
    command = f"python -m tests.benchmarks.gpu {' '.join(arguments or sys.argv[1:])}".strip()
    facts = section(
        command, where(device, dtype), peaks, rounds, options.seed, rows, bench.failures
    )
    print(tables(facts))
    if options.dry_run:
        print("dry run: tiny models on a CPU; these are no figures, and no page was written")
        return
    write_report(options.out, **{"cpu" if on_cpu else "gpu": facts})


def command_line() -> argparse.ArgumentParser:
    """What ``make bench-gpu`` may be given."""
    parser = make_parser("gpu", __doc__)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--dry-run", action="store_true", help="tiny models on a CPU, no page")
    kind.add_argument("--cpu", action="store_true", help="small models on a CPU, for the page")
    parser.add_argument("--only", nargs="+", choices=[size.name for size in FULL])
    parser.add_argument("--rounds", type=int, default=10, help="of --cpu: steps each way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DOCS)
    return parser


if __name__ == "__main__":
    main()
