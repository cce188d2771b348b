"""`cost-report` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.settings import load_settings
from tests.workflows.upkeep.data_home import filled

run = CliRunner().invoke


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    (tmp_path / "config").mkdir()
    return ["--config", str(tmp_path / "config"), "--home", str(tmp_path / "home")]


@pytest.fixture
def home(places: list[str]) -> Path:
    return filled(load_settings(Path(places[1]), Path(places[3])))


def test_it_prints_the_totals_with_their_prices_and_writes_the_files(places, home):
    told = run(app, ["cost-report", *places])
    assert told.exit_code == 0, told.output
    for line in ("machine ", "product ", "picture ", "storage ", "instead ", "prices ", "missing "):
        assert f"\n{line}" in f"\n{told.output}"
    assert "0.10 EUR an hour and 65 W at 0.25 EUR a kWh" in told.output
    paths = [Path(line) for line in told.output.splitlines()[-3:]]
    assert [path.name for path in paths] == ["index.html", "skus.parquet", "nights.parquet"]
    assert all(path.is_file() for path in paths)


def test_json_and_another_place(places, home, tmp_path):
    told = run(app, ["cost-report", "--json", "--out", str(tmp_path / "out"), *places])
    found = json.loads(told.output)
    assert found["published"] == 5
    assert Path(found["files"]["page"]) == tmp_path / "out" / "index.html"
    assert [each["name"] for each in found["alternatives"]] == ["photo studio", "hosted trainer"]
    taken = run(app, ["cost-report", "--out", str(home / "images"), *places])
    assert (taken.exit_code, "give another --out" in taken.output) == (1, True)


def test_a_home_without_anything_is_one_error(places):
    told = run(app, ["cost-report", *places])
    assert told.exit_code == 1
    assert told.output.count("error:") == 1
