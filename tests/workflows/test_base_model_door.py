"""A base model that cannot be opened: every entry says so in one line, and leaves all as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.diffusion.base import resolve_base_model
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
MESSAGE = "model_index.json says StableDiffusionXLInpaintPipeline; supported are"


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that no entry may read: there are none."""
    folder = write_tiny_xl(tmp_path_factory.mktemp("xl") / "model")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("XLPipeline", "XLInpaintPipeline"))
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


WEIGHTS = "diffusion_pytorch_model.safetensors"


def set_key(path: Path, key: str, value: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def in_eight_bits(path: Path) -> None:
    tensors = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(path).items()}
    save_file(tensors, path)


def without_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors.pop(max(tensors))
    save_file(tensors, path)


def only_a_checkpoint(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    save_file({"cond_stage_model.x": torch.zeros(1)}, folder / "model.safetensors")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "family": (
        lambda f: set_key(f / "model_index.json", "_class_name", "QwenImageEditPipeline"),
        "model_index.json says QwenImageEditPipeline; supported are",
    ),
    "part gone": (lambda f: shutil.rmtree(f / "vae"), "it lacks vae"),
    "unfinished": (
        lambda f: (f / "vae" / WEIGHTS).rename(f / "vae" / f"{WEIGHTS}.incomplete"),
        "is a download that has not finished",
    ),
    "empty": (lambda f: (f / "unet" / WEIGHTS).write_bytes(b""), f"unet/{WEIGHTS} is empty"),
    "pointer": (
        lambda f: (f / "text_encoder" / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\n"
        ),
        "run git lfs pull",
    ),
    "variant": (
        lambda f: (f / "vae" / WEIGHTS).rename(f / "vae" / f"{WEIGHTS[:-11]}fp16.safetensors"),
        "these are the weights of a variant: rename",
    ),
    "eight bits": (lambda f: in_eight_bits(f / "unet" / WEIGHTS), "as F8_E4M3; expected"),
    "quantised": (
        lambda f: set_key(f / "unet" / "config.json", "quantization_config", {}),
        "has a quantization_config",
    ),
    "one tensor gone": (
        lambda f: without_a_tensor(f / "text_encoder" / "model.safetensors"),
        "no file holds",
    ),
    "another shape": (
        lambda f: set_key(f / "unet" / "config.json", "cross_attention_dim", 32),
        "expected (16, 32): the weights of unet are not",
    ),
    "no vocabulary": (
        lambda f: (f / "tokenizer" / "tokenizer.json").unlink(),
        "tokenizer lacks its vocabulary",
    ),
    "a checkpoint": (only_a_checkpoint, "StableDiffusionPipeline.from_single_file("),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_door_the_doctor_learn_and_generate_say_the_same_line(
    make_settings, tiny_model_folder: Path, tmp_path: Path, damage: str
) -> None:
    spoil, message = DAMAGES[damage]
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    spoil(folder)
    settings = make_settings(base_model={"base_model": str(folder)})
    shutil.copytree(GOLDEN, settings.home, dirs_exist_ok=True)
    (settings.config_dir / "base_model.yaml").write_text(f"base_model: {folder}\n")
    before = contents(tmp_path)

    with pytest.raises(BaseModelError) as caught:
        resolve_base_model(settings.base_model)
    line = str(caught.value)
    assert message in line
    assert "\n" not in line
    with pytest.raises(BaseModelError) as caught:
        list(learn_concepts(open_home(settings)))
    assert str(caught.value) == line
    where = ["--config", str(settings.config_dir), "--home", str(settings.home)]
    for command in (["learn"], ["generate", "--day", "2026-03-02"]):
        result = CliRunner().invoke(app, [*command, *where])
        assert result.exit_code == 1, result.output
        assert result.stderr.count("\n") == 1
        assert line in result.stderr
    assert contents(tmp_path) == before
    result = CliRunner().invoke(app, ["doctor", *where])
    assert result.exit_code == 1
    assert line in result.output
