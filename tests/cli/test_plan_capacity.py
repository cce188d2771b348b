"""`plan-capacity` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app

run = CliRunner().invoke


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    (tmp_path / "config").mkdir()
    return ["--config", str(tmp_path / "config"), "--home", str(tmp_path / "home")]


def test_it_prints_figures_with_their_errors_and_what_they_come_to(places):
    asked = ["--new-skus", "274", "--pictures", "1000", "--price-per-hour", "2"]
    told = run(app, ["plan-capacity", *asked, *places])
    assert told.exit_code == 0, told.output
    for words in ("learning", "publishing", "rendering exact", "in turn)", "cpu-2-threads"):
        assert words in told.output
    for line in ("cards ", "night ", "work ", "storage ", "money "):
        assert f"\n{line}" in told.output
    assert not (Path(places[3]) / "catalog").exists()  # it writes nothing


def test_json_is_the_whole_plan(places):
    told = run(app, ["plan-capacity", "--new-skus", "10", "--json", *places])
    plan = json.loads(told.output)
    assert plan["demand"]["new_skus"] == 10
    assert plan["fits"] is True
    assert {figure["name"] for figure in plan["figures"]} == {
        "learning",
        "publishing",
        "parts",
        "version",
    }


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "give --new-skus or --pictures"),
        (["--new-skus", "5", "--hours", "0"], "--hours 0; expected 0.01 to 24"),
        (["--new-skus", "5", "--card", "h200"], "expected this-machine or one of cpu-2-threads"),
        (["--new-skus", "5", "--card", "this-machine"], "this home has measured 0 points"),
        (["--new-skus", "5", "--seconds-per-sku", "-1"], "a speed of -1"),
    ],
)
def test_bad_input_is_one_error(places, asked, words):
    told = run(app, ["plan-capacity", *asked, *places])
    assert told.exit_code == 1
    assert words in told.output
    assert told.output.count("error:") == 1
