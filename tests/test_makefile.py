"""When `make` installs, and into what; no package is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MADE_FROM = ("pyproject.toml", "constraints.txt", "requirements-encoders.txt")

PYTHON = """#!/bin/sh
case "$*" in
  *sys.version_info*) echo 3.11.9 ;;
  *"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *pip*) echo pip >> "$INSTALLED" ;;
esac
"""
"""Answers as a Python does, and counts what it would install."""


class Checkout:
    """The Makefile and what an environment is made from, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.folder.mkdir()
        for name in ("Makefile", *MADE_FROM):
            shutil.copy(REPOSITORY / name, self.folder)
        programs = folder / "programs"
        programs.mkdir()
        (programs / "python3").write_text(PYTHON, encoding="utf-8")
        (programs / "python3").chmod(0o755)
        self.log = folder / "installed"
        self.environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "INSTALLED": str(self.log),
        }

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "setup", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def installs(self, *arguments: str) -> bool:
        before = self._lines()
        done = self.setup(*arguments)
        assert done.returncode == 0, done.stderr
        return self._lines() > before

    def _lines(self) -> int:
        return len(self.log.read_text("utf-8").splitlines()) if self.log.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    return Checkout(tmp_path)


def test_make_installs_when_the_content_changed_and_not_when_it_is_merely_newer(
    checkout: Checkout,
) -> None:
    assert checkout.installs()
    assert not checkout.installs()
    for name in MADE_FROM:
        os.utime(checkout.folder / name)
    assert not checkout.installs()
    for name in MADE_FROM:
        with (checkout.folder / name).open("a", encoding="utf-8") as file:
            file.write("# another version\n")
        assert checkout.installs(), name
    assert not checkout.installs()


def test_nothing_is_installed_into_what_a_link_leads_to_unless_it_is_named(
    checkout: Checkout, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (checkout.folder / ".venv").symlink_to(elsewhere)
    elsewhere.mkdir()
    refused = checkout.setup()
    assert refused.returncode != 0
    first = refused.stderr.splitlines()[0]
    assert first.startswith(f".venv is a link to {elsewhere}, outside this folder")
    assert f"VENV={elsewhere}" in first
    assert not checkout.log.exists()
    assert checkout.installs(f"VENV={elsewhere}")
    # Made from the same versions, it serves through the link as well.
    assert not checkout.installs()
    with (checkout.folder / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("# another version\n")
    assert checkout.setup().returncode != 0


def test_a_link_that_stays_in_the_checkout_is_its_own_affair(checkout: Checkout) -> None:
    (checkout.folder / "environments").mkdir()
    (checkout.folder / ".venv").symlink_to("environments")
    assert checkout.installs()
    assert not checkout.installs()


def test_the_second_ui_is_read_only_and_a_port_further_on() -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    told = subprocess.run(
        ["make", "-n", "view", "PORT=4100"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "dagster-webserver --read-only --host 127.0.0.1 --port 4101" in told
