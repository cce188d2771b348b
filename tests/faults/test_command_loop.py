"""Ordinary commands over and over, as real processes: each ends with the documented status.

``COMMAND_RUNS=500 python -m pytest -m slow -s tests/faults/test_command_loop.py`` is the long loop;
``-s`` shows the table of commands, runs and statuses.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import pytest

from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import Home
from tests.builders import NIGHT, make_archive_row
from tests.faults.dagster_stack import REPOSITORY, write_config

RUNS = int(os.environ.get("COMMAND_RUNS", "500"))

READING: Mapping[str, int] = {
    "status": 0,
    f"manifest --day {NIGHT}": 0,
    "manifest --day 1999-01-01": 1,
    "lern": 2,
}
"""Command -> exit status, on any home with a night."""

EVERYDAY: Mapping[str, int] = {
    **READING,
    "--version": 0,
    "--help": 0,
    "index": 0,
    "learn": 0,
    f"generate --day {NIGHT}": 0,
    f"generate --dry-run --day {NIGHT}": 0,
    "generate --dry-run --json": 0,
    "status --json": 0,
    "versions": 0,
    "gallery": 0,
    "doctor": 0,
    "doctor --repair": 0,
    "manifest": 0,
    "manifest --versions": 0,
    "manifest --out {out}": 0,
    "verify": 0,
    "gc --dry-run": 0,
    "gc": 0,
    "retire": 0,
    "export MUG-ZIGZAG-01 --out {out}": 0,
    "sample-catalog {out} --sku MUG-ZIGZAG-01": 0,
    "rollback {version}": 0,
    "learn nobody": 1,
    "generate --day tomorrow": 2,
    "generate --json": 2,
    "evaluate --collection nobody": 1,
    "status --config absent": 1,
    "versions --collection nobody": 1,
    "gallery --day 1999-01-01": 1,
    "manifest --as-of nothing": 1,
    "gc --grace-hours -1": 2,
    "retire nobody": 1,
    "export nobody --out {out}": 1,
    "export MUG-ZIGZAG-01": 2,
    "rollback nothing": 1,
}


@dataclass
class Shell:
    """Runs commands on one home, counts their statuses, keeps what they said when unexpected."""

    folder: Path
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)

    def run(self, command: str, expected: int, **values: str) -> str:
        """Run ``command`` as an own process; ``{out}`` is a path that is not there yet."""
        out = self.folder / f"out-{sum(map(Counter.total, self.statuses.values()))}"
        words = shlex.split(command.format(out=out, **values))
        result = subprocess.run(
            [sys.executable, "-m", "catalog_pipeline.cli", *words],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "CATALOG_PIPELINE_CONFIG": str(self.folder / "config"),
                "CATALOG_PIPELINE_HOME": str(self.folder / "home"),
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
        )
        self.statuses.setdefault(command, Counter())[result.returncode] += 1
        if result.returncode != expected or "Traceback" in result.stderr:
            self.unexpected.append(f"{command}: {result.returncode}\n{result.stderr[-2000:]}")
        return result.stdout

    def table(self) -> str:
        """A line a command: how often it ran, and the statuses that it ended with."""
        lines = [
            f"| {command} | {counts.total()} | "
            + ", ".join(f"{status}: {count}" for status, count in sorted(counts.items()))
            + " |"
            for command, counts in self.statuses.items()
        ]
        return "\n".join(["| command | runs | statuses |", "|---|---|---|", *lines])


def loop(shell: Shell, commands: Mapping[str, int], runs: int, **values: str) -> None:
    """``runs`` processes, one after the other, of ``commands`` in turn."""
    turns: Sequence[tuple[str, int]] = list(islice(cycle(commands.items()), runs))
    for command, expected in turns:
        shell.run(command, expected, **values)


def test_a_few_commands_end_as_documented(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    home = Home(Settings(config_dir=tmp_path / "config", home=tmp_path / "home"))
    key, digest = home.archive.put_image(b"\x89PNG")
    row = make_archive_row("a", "00123", path=key, sha256=digest)
    home.archive.publish_day(NIGHT, [row], ["a"])
    shell = Shell(tmp_path)
    loop(shell, READING, len(READING))
    assert shell.unexpected == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_hundred_commands_end_as_documented(tmp_path: Path, tiny_model_folder: Path) -> None:
    write_config(tmp_path / "config", tiny_model_folder)
    shell = Shell(tmp_path)
    for command in (
        "sample-catalog --sku MUG-HEARTS-01 --sku MUG-ZIGZAG-01",
        "index",
        "learn",
        f"generate --day {NIGHT}",
    ):
        shell.run(command, 0)
    assert shell.unexpected == []
    home = Home(Settings(config_dir=tmp_path / "config", home=tmp_path / "home"))
    version = home.adapters("default").history()[-1].version
    loop(shell, EVERYDAY, RUNS, version=version)
    print(f"\n{shell.table()}")
    assert shell.unexpected == []
