"""``generate --dry-run``: what a night would make, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.settings import Settings
from tests.workflows.painted_night import NIGHT, Studio

REPOSITORY = Path(__file__).resolve().parents[1]

run = CliRunner().invoke


@pytest.fixture
def arguments(make_settings: Callable[..., Settings], tmp_path: Path) -> list[str]:
    """Of a home with three products, and of settings that ask for coverage."""
    studio = Studio(make_settings(generation=NIGHT))
    studio.learn("00123", "cup", "vase")
    config = tmp_path / "settings"
    config.mkdir()
    policies = {
        "singles_per_sku": 1,
        "pairs": 1,
        "cross_sell": {"pictures": 2, "lists": [{"name": "tea", "items": ["00123", "cup", "urn"]}]},
        "coverage": {"images": 6, "nights": 7},
    }
    night = NIGHT | {"policies": policies, "budget": {"max_images": 12}}
    (config / "generation.yaml").write_text(yaml.safe_dump(night), encoding="utf-8")
    home = str(studio.settings.home)
    day = ("--day", "2025-03-14")
    return ["generate", "--dry-run", *day, "--config", str(config), "--home", home]


def files(arguments: list[str]) -> dict[str, bytes]:
    home = Path(arguments[-1])
    return {str(path): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def test_a_dry_run_prints_tables_and_writes_nothing(arguments: list[str]) -> None:
    before = files(arguments)
    result = run(app, arguments)
    assert result.exit_code == 0, result.output
    assert files(arguments) == before
    text = result.stdout
    assert "of 2025-03-14: 12 images (" in text
    assert "nothing learned for urn" in text
    tables = {block.split("\n")[0].split()[0]: block for block in text.split("\n\n")[1:]}
    assert "cross_sell/tea         2" in tables["policy"]
    assert "\nsingle" in tables["layout"]
    lines = [line.split() for line in tables["product"].splitlines()[1:]]
    assert [line[0] for line in lines] == ["00123", "cup", "vase"]
    assert all(int(line[2]) == 0 for line in lines)
    short = [line for line in lines if line[3] != "-"]
    assert all(int(line[1]) + int(line[3]) == 6 for line in short)
    assert short
    assert "coverage: below 6 pictures in 7 nights" in text
    assert "about 0.6 minutes for 12 pictures (3.00 s a picture, assumed" in text
    assert "dry run: nothing was written" in text


def test_a_dry_run_for_programs_is_one_json_object(arguments: list[str]) -> None:
    result = run(app, [*arguments, "--json"])
    record = json.loads(result.stdout)
    assert record["jobs"] == len(record["pictures"]) == 12
    assert record["per_policy"]["cross_sell/tea"] == 2
    assert record["coverage"]["images"] == 6
    assert record["estimate"] == {"minutes": 0.6, "seconds_per_image": 3.0, "measured": False}
    assert {"job_id", "policy", "skus", "layout", "prompt"} <= set(record["pictures"][0])


def test_json_without_a_dry_run_is_wrong_usage(arguments: list[str]) -> None:
    result = run(app, [argument for argument in arguments if argument != "--dry-run"] + ["--json"])
    assert result.exit_code == 2
    assert "--json goes with --dry-run" in result.stderr


def test_a_dry_run_opens_no_model(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom catalog_pipeline.cli import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        "print(*[n for n in ('torch', 'dagster') if n in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "12 images" in result.stdout
    assert result.stderr.strip() == ""
