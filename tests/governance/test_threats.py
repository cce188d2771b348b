"""docs/governance/threats.md: each threat has a control that is tested, and each test exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.test_table import functions_in

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "docs" / "governance"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def tables(page: str) -> dict[str, list[list[str]]]:
    """The rows of the table below each heading, without its head."""
    found: dict[str, list[list[str]]] = {}
    for heading, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        lines = [line for line in body.splitlines() if line.startswith("|")]
        found[heading] = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]
        ]
    return found


@pytest.fixture(scope="module", name="page")
def _page() -> str:
    return (PAGES / "threats.md").read_text("utf-8")


def test_every_threat_has_a_control_and_a_test_or_the_page_of_one(page: str) -> None:
    threats = tables(page)
    assert threats.pop("Not covered")
    assert len(threats) == 7
    for who, rows in threats.items():
        assert rows, who
        for could, control, proof in rows:
            assert could, who
            assert control, could
            linked = re.findall(r"\]\((\w+\.md)\)", proof)
            assert linked or _TEST.search(proof), could


def test_who_is_asked_about_is_there(page: str) -> None:
    headings = " ".join(tables(page)).lower()
    for who in ("outsider", "thief", "reader", "operator", "insider", "poisoned", "pictures"):
        assert who in headings


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    files = set(re.findall(r"`(tests/[\w/.]+)", text))
    assert files or page.name not in {"threats.md", "offline.md", "access.md", "data.md"}
    assert [file for file in sorted(files) if not (REPOSITORY / file).is_file()] == []
    named = _TEST.findall(text)
    missing = [f"{file}::{test}" for file, test in named if test not in functions_in(file)]
    assert missing == []
    # A name that is cut short, or that a line break parts, would not be looked for.
    assert len(named) == text.count("::test_")


def test_the_page_for_managers_leads_to_every_page_of_governance() -> None:
    index = (PAGES / "index.md").read_text("utf-8")
    pages = {page.name for page in PAGES.glob("*.md")} - {"index.md"}
    assert [page for page in sorted(pages) if f"]({page}" not in index] == []
