"""Every family through the whole line: tiny folders of its real classes, random weights.

What is learned means nothing; that each command does its work, and says the same after a
kill as without one, is what is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.settings import Settings, load_settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from tests.tiny_families import (
    write_tiny_klein,
    write_tiny_qwen_image,
    write_tiny_stable_diffusion_3,
)
from tests.tiny_model import write_tiny_xl
from tests.workflows.killed_learning import KilledLearning
from tests.workflows.tiny_catalog import LEARNING, elsewhere, learn_all, write_photos

NIGHT = "2026-01-31"
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "xl": write_tiny_xl,
    "klein": write_tiny_klein,
    "qwen": write_tiny_qwen_image,
    "sd3": write_tiny_stable_diffusion_3,
}
SIDE_PX = 32


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow if name == "xl" else ()) for name in FAMILIES
    ],
)
def options(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """``--config`` and ``--home`` of a line over one family with two products."""
    folder = tmp_path_factory.mktemp(request.param)
    model = FAMILIES[request.param](folder / "model")
    config = folder / "settings"
    config.mkdir()
    rooms = {
        "base_model": {
            "base_model": str(model),
            "dtype": "float32",
            "threads": 1,
            "side_px": SIDE_PX,
        },
        "catalogs": {"root": "products", "settle_seconds": 0},
        # The photos are 96 x 80, so that views are oblong where a family's step allows it.
        "learning": {**LEARNING, "steps": 4, "gate_images": 1, "aspect_buckets": True},
        "generation": {
            "policies": {"singles_per_sku": 1, "pairs": 1},
            "steps": 2,
            "width": SIDE_PX,
            "height": SIDE_PX,
            "quality": {"gate": False},
        },
    }
    for room, content in rooms.items():
        (config / f"{room}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    options = ["--config", str(config), "--home", str(folder / "home")]
    settings = settings_of(options)
    for seed, sku in enumerate(("mug", "pot")):
        write_photos(settings, sku, seed)
    return options


def settings_of(options: list[str]) -> Settings:
    return load_settings(Path(options[1]), home=Path(options[3]))


def head_of(settings: Settings) -> str:
    current = open_home(settings).adapters("default").current()
    assert current is not None
    return current.version


def parent_of(settings: Settings) -> str:
    parent = open_home(settings).adapters("default").read(head_of(settings)).parent
    assert parent is not None
    return parent


def succeed(options: list[str], *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_doctor_finds_nothing_wrong(options: list[str]) -> None:
    assert "base model: " in succeed(options, "doctor")


def test_two_products_are_learned_and_shown_together(options: list[str]) -> None:
    succeed(options, "index")
    assert "2 learned, 0 unchanged, 0 failed" in succeed(options, "learn")
    assert "nothing to learn" in succeed(options, "learn")
    assert "rendered 3, already there 0, failed 0" in succeed(options, "generate", "--day", NIGHT)
    rows = pq.read_table(Path(options[3]) / "manifest" / f"dt={NIGHT}").to_pylist()
    assert sorted(len(row["skus"]) for row in rows) == [1, 1, 2]
    assert {row["height"] for row in rows} == {SIDE_PX}
    assert "rendered 0, already there 3" in succeed(options, "generate", "--day", NIGHT)
    succeed(options, "verify")


def test_a_product_is_exported(options: list[str], tmp_path: Path) -> None:
    for form in ("lora", "pipeline"):
        out = tmp_path / form
        succeed(options, "export", "mug", "--out", str(out), "--format", form)
        assert "a photo of a" in (out / "README.txt").read_text("utf-8")


@pytest.mark.parametrize(
    "options",
    [pytest.param(name, marks=() if name == "klein" else pytest.mark.slow) for name in FAMILIES],
    indirect=True,
)
def test_killed_learning_resumes_to_the_same_version(
    options: list[str], tmp_path: Path, killed_learning: KilledLearning
) -> None:
    succeed(options, "index")
    succeed(options, "learn")  # no work where it was done before
    settings = settings_of(options)
    twin = elsewhere(settings, tmp_path / "killed")
    twin.home.mkdir()
    refresh_index(open_home(twin))
    killed_learning(twin, 3, "learn mug")
    assert len(open_home(twin).adapters("default").staging_names()) == 1
    assert learn_all(twin, ["mug"])["mug"].status == "learned"
    assert head_of(twin) == parent_of(settings)


def test_rollback_goes_back(options: list[str]) -> None:
    settings = settings_of(options)
    parent = parent_of(settings)
    succeed(options, "rollback", parent)
    assert head_of(settings) == parent
