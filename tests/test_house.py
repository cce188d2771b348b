"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def tracked(*patterns: str) -> list[Path]:
    """The files under version control that match, or every file where there is no git."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--", *patterns],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout to know which files belong to the project")
    return [
        REPOSITORY / name for name in listing.split("\0") if name and (REPOSITORY / name).is_file()
    ]


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_no_file_has_a_name_that_says_nothing() -> None:
    says_nothing = re.compile(r"(^|/)(utils?|helpers?|misc|common|[^/]*(_old|_v2|_new))(\.py|/)")
    assert [relative(p) for p in tracked("*.py") if says_nothing.search(relative(p))] == []


def test_nothing_is_left_undone_or_swallowed() -> None:
    undone = re.compile(r"#\s*(?:TODO|FIX" + r"ME|XXX)\b")
    offenders = []
    for path in tracked("*.py"):
        text = path.read_text("utf-8")
        offenders += [
            f"{relative(path)}:{n}"
            for n, line in enumerate(text.splitlines(), 1)
            if undone.search(line)
        ]
        for node in ast.walk(ast.parse(text)):
            swallowed = isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (
                    ast.unparse(node.type) in {"Exception", "BaseException"}
                    and all(isinstance(step, ast.Pass) for step in node.body)
                )
            )
            if swallowed:
                offenders.append(f"{relative(path)}:{getattr(node, 'lineno', 0)}")
    assert offenders == []


def test_no_tracked_text_names_a_place_on_one_machine_or_a_package_index() -> None:
    machine = re.compile(r"(?:^|[^A-Za-z0-9_.])/(?:home|root|Users|work|farm|mnt)/\w")
    index = re.compile(r"(?:extra-)?index-url|find-links|pypi\.|npmjs\.")
    offenders = []
    for path in tracked():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # pictures and weights
        if path == Path(__file__).resolve():
            continue
        offenders += [
            f"{relative(path)}:{n}: {line.strip()[:100]}"
            for n, line in enumerate(text.splitlines(), 1)
            if machine.search(line) or index.search(line)
        ]
    assert offenders == []


def test_every_test_asserts_something() -> None:
    offenders = []
    for path in tracked("tests/*.py", "tests/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test"):
                continue
            text = ast.unparse(node)
            if not re.search(r"\bassert|raises|warns|fail\(", text):
                offenders.append(f"{relative(path)}:{node.lineno} {node.name}")
    assert offenders == []


def test_the_readme_is_read_in_two_minutes_and_leads_to_every_page() -> None:
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    assert len(readme.split()) < 600
    assert {"make demo", "make test"} <= set(re.findall(r"`(make \w+)`", readme))
    site = (REPOSITORY / "docs/site/mkdocs.yml").read_text("utf-8")
    pages = {page.relative_to(REPOSITORY / "docs").as_posix() for page in tracked("docs/*.md")}
    assert [page for page in pages if f"{page}\n" not in site] == []


def test_every_documented_file_exists() -> None:
    missing = []
    for page in tracked("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            if "://" in target or target.startswith("mailto:"):
                continue
            if not (page.parent / target).exists():
                missing.append(f"{relative(page)} -> {target}")
    assert missing == []


def test_every_pinned_version_is_exact() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line.strip() and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[^=\s]+", line)] == []
    assert "torch==2.13.0" in pins


def test_the_accepted_pythons_are_the_same_everywhere() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["project"]["requires-python"])
    assert bounds is not None
    pythons = [f"3.{minor}" for minor in range(int(bounds[1]), int(bounds[2]))]
    assert project["tool"]["mypy"]["python_version"] == pythons[0]
    assert project["tool"]["ruff"]["target-version"] == f"py{pythons[0].replace('.', '')}"
    assert f"PYTHONS := {' '.join(pythons)}\n" in makefile
    assert f"Python {', '.join(pythons[:-1])} or {pythons[-1]} with `venv`" in readme
    named = [f"python{version}" for version in reversed(pythons)]
    assert f"python3 {' '.join(named)} python)" in makefile
    assert "`python3`, " + ", ".join(f"`{name}`" for name in named) in readme
    constraints = (REPOSITORY / "constraints.txt").read_text("utf-8")
    assert f"Python {pythons[0]} to {pythons[-1]}," in constraints.partition("\n")[0]
