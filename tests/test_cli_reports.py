"""`report`, and the report that `generate` writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.settings import load_settings
from catalog_pipeline.workflows.night.night_figures import FIGURES_KEY
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from tests.workflows.hard_night import ALWAYS
from tests.workflows.painted_night import DAY, NIGHT, Studio

run = CliRunner().invoke


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    config = tmp_path / "config"
    config.mkdir()
    (config / "generation.yaml").write_text(yaml.safe_dump(NIGHT), "utf-8")
    return ["--config", str(config), "--home", str(tmp_path / "home")]


@pytest.fixture
def studio(places: list[str]) -> Studio:
    made = Studio(load_settings(Path(places[1]), Path(places[3])))
    made.learn("a", "b", "c")
    plan_night(made.home, DAY)
    made.render(forgets=ALWAYS)
    publish_manifest(made.home, DAY)
    return made


def test_a_report_is_written_in_the_language_that_is_asked_for(places, studio):
    result = run(app, ["report", *places])
    assert (result.exit_code, result.stderr) == (0, "")
    path = Path(result.stdout.strip())
    assert path.name == f"dt={DAY.isoformat()}.html"
    assert 'html lang="en"' in path.read_text("utf-8")
    assert run(app, ["report", "--day", DAY.isoformat(), "--lang", "ja", *places]).exit_code == 0
    assert 'html lang="ja"' in path.read_text("utf-8")
    gallery = run(app, ["gallery", "--lang", "ja", *places]).stdout.strip()
    assert 'html lang="ja"' in Path(gallery).read_text("utf-8")
    for command in ("report", "gallery"):
        assert run(app, [command, "--lang", "fr", *places]).exit_code == 2


def test_reports_of_every_night_are_written_at_once(places, studio):
    result = run(app, ["report", "--all", *places])
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert run(app, ["report", "--all", "--day", DAY.isoformat(), *places]).exit_code == 2


@pytest.mark.parametrize("command", ["report", "gallery"])
def test_a_home_without_a_night_says_what_to_run(places, command):
    result = run(app, [command, *places])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert re.search("`generate` first|begin with `catalog-pipeline index`", result.stderr)
    assert result.stderr.count("\n") == 1


def test_generate_writes_the_report_and_a_failed_one_costs_the_exit_status_alone(places, studio):
    result = run(app, ["generate", "--day", DAY.isoformat(), *places])
    assert (result.exit_code, "error" in result.stderr) == (0, False)
    last = result.stdout.splitlines()[-1]
    assert last.startswith("report ")
    assert Path(last.removeprefix("report ")).is_file()
    studio.home.objects.put(FIGURES_KEY, b"rotten")
    result = run(app, ["generate", "--day", DAY.isoformat(), *places])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("manifest ")
    problem = result.stderr.splitlines()[-1]
    assert problem.startswith("error: the night is published, its report is not: ")
    assert f"`catalog-pipeline report --day {DAY.isoformat()}`" in problem
