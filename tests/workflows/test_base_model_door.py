"""A base model that cannot be opened: every entry says so in one line, and leaves all as it was."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.errors import BaseModelError
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.evaluate.evaluate import evaluate
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.night.render_night import render_night
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from catalog_pipeline.workflows.upkeep.export_concept import export_concept
from tests.tiny_model import write_tiny_xl

GOLDEN = Path(__file__).resolve().parents[1] / "stores" / "golden" / "schema_1"
MESSAGE = "model_index.json says StableDiffusionXLPipeline; supported are"


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that no entry may read: there are none."""
    folder = write_tiny_xl(tmp_path_factory.mktemp("xl") / "model")
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    return folder


@pytest.fixture
def settings(make_settings, xl: Path) -> Settings:
    """A home with an index, a version and a night, and a base of a family that is not there."""
    made = make_settings(base_model={"base_model": str(xl)})
    shutil.copytree(GOLDEN, made.home, dirs_exist_ok=True)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "enter",
    [
        lambda settings: list(learn_concepts(open_home(settings))),
        lambda settings: list(learn_concepts(open_home(settings), ["00123"])),
        lambda settings: render_night(open_home(settings), date(2026, 3, 2)),
        lambda settings: evaluate(open_home(settings)),
        lambda settings: export_concept(
            open_home(settings), ["00123"], settings.home.parent / "out"
        ),
    ],
    ids=["learn", "learn again", "render", "evaluate", "export"],
)
def test_it_is_refused_with_nothing_lost_or_written(settings: Settings, enter) -> None:
    before = contents(settings.home.parent)
    with pytest.raises(BaseModelError, match=MESSAGE):
        enter(settings)
    assert contents(settings.home.parent) == before


def test_the_doctor_calls_it_an_error(settings: Settings) -> None:
    found = [result for result in run_doctor(open_home(settings)) if "base model" in result.what]
    assert [result.level for result in found] == ["error"]
    assert MESSAGE in found[0].what
    assert found[0].hint


@pytest.mark.parametrize("command", [["learn"], ["generate", "--day", "2026-03-02"]])
def test_the_commands_end_with_one_line(settings: Settings, command: list[str]) -> None:
    base = f"base_model: {settings.base_model.base_model}\n"
    (settings.config_dir / "base_model.yaml").write_text(base, encoding="utf-8")
    before = contents(settings.home.parent)
    where = ["--config", str(settings.config_dir), "--home", str(settings.home)]
    result = CliRunner().invoke(app, [*command, *where])
    assert result.exit_code == 1
    assert MESSAGE in result.stderr
    assert result.stderr.count("\n") == 1
    assert contents(settings.home.parent) == before
