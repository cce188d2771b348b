"""Output that somebody waits for, or nobody: closed streams, full ones, pipes, narrow locales."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "settings").mkdir()
    (tmp_path / "home" / "products" / "mаg").mkdir(parents=True)  # a Cyrillic letter, refused
    return tmp_path


def shell(
    home: Path, script: str, /, *, exact: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``script``, in which ``$C`` is the command line; ``exact``: with nothing else set."""
    settings = {
        "C": f"{sys.executable} -m catalog_pipeline.cli",
        "CATALOG_PIPELINE_CONFIG": str(home / "settings"),
        "CATALOG_PIPELINE_HOME": str(home / "home"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
    }
    return subprocess.run(
        ["bash", "-c", script],
        env={**({} if exact else os.environ), **settings, **environment},
        cwd=home,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("command", ["--help", "index --help", "status"])
def test_a_reader_that_left_ends_the_command_as_it_ends_others(home: Path, command: str) -> None:
    # The reader is gone for certain before the first line.
    result = shell(home, f"exec 3> >(true); wait $!; $C {command} >&3")
    assert (result.returncode, result.stderr) == (141, "")


def test_progress_that_nobody_reads_ends_the_command_likewise(home: Path) -> None:
    result = shell(home, "exec 3> >(true); wait $!; $C verify 2>&3")
    assert result.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", ["--help", "status"])
def test_output_that_finds_no_room_is_one_line_and_exit_1(home: Path, command: str) -> None:
    result = shell(home, f"$C {command} >/dev/full")
    assert result.returncode == 1
    assert result.stderr.startswith("error: the output cannot be written: No space left")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&- <&-"])
def test_closed_streams_change_nothing(home: Path, closed: str) -> None:
    result = shell(home, f"$C verify {closed}")
    assert result.returncode == 0
    assert bool(result.stdout) == (closed == "2>&-")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "1"},
    ],
    ids=["latin-1", "C"],
)
def test_a_locale_without_the_letters_prints_them_escaped(
    home: Path, environment: dict[str, str]
) -> None:
    result = shell(home, "$C index", exact=True, **environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert r"refused m\u" in result.stdout
