"""docs/reliability.md names tests; each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_row_of_the_fault_table_has_its_test() -> None:
    page = (REPOSITORY / "docs" / "reliability.md").read_text("utf-8")
    rows = [
        line
        for line in page.splitlines()
        if line.startswith("|") and line.strip("|-") and "fault |" not in line
    ]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    without = [row for row in rows if "::test_" not in row and not re.fullmatch(r"[| a-z]*", row)]
    assert without == []
    assert len(named) > 30
    missing = [f"{file}::{name}" for file, name in named if name not in functions_in(file)]
    assert missing == []


def functions_in(file: str) -> set[str]:
    tree = ast.parse((REPOSITORY / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
