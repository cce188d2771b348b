"""A product in every mode as one picture, and no trace of it anywhere else."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from catalog_pipeline.cli import app
from catalog_pipeline.errors import GenerationError
from catalog_pipeline.evaluation.contact_sheet import decode_png
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.preview_products import preview_products
from tests.workflows.photographed import files_of, photos_opened

STRIP = "reports/preview.png"


@pytest.fixture
def line(photographed_line: Settings, tmp_path: Path) -> Settings:
    home = shutil.copytree(photographed_line.home, tmp_path / "home")
    return photographed_line.model_copy(update={"home": home})


def changed(line: Settings, **generation: Any) -> Settings:
    update = {"generation": line.generation.model_copy(update=generation)}
    return line.model_copy(update=update)


def run(line: Settings, *arguments: str) -> Result:
    options = ["--config", str(line.config_dir), "--home", str(line.home)]
    return CliRunner().invoke(app, ["preview", *arguments, *options])


def test_the_strips_are_written_and_nothing_else(line: Settings) -> None:
    shutil.rmtree(line.home / "catalog" / "anchors")  # before any night
    before = files_of(line)
    result = run(line, "tent", "ball", "tent")
    assert result.exit_code == 0, result.output
    tent, ball, path = result.stdout.splitlines()
    assert tent.startswith("tent: learned; learned only: tent: none of its 2 photos shows it")
    assert ball == "ball: learned, anchored, exact"
    assert Path(path) == line.home / STRIP
    after = files_of(line)
    assert set(after) - set(before) == {STRIP}
    assert {name: after[name] for name in before} == before
    height, width, _ = decode_png(after[STRIP]).shape
    assert width >= 4 * 320 > 2 * 320
    assert height >= 2 * 320


def test_each_mode_has_its_picture_whatever_the_settings_ask_for(line: Settings) -> None:
    learned_nights = changed(line, mode="learned")
    (strip,), _ = preview_products(open_home(learned_nights), ["crate"], scene="wood")
    assert {mode: picture.shape for mode, picture in strip.pictures.items()} == {
        "learned": (16, 16, 3),
        "anchored": (16, 16, 3),
        "exact": (128, 128, 3),
    }
    assert (strip.sku, strip.name, strip.reason) == ("crate", "Product crate", "")
    assert strip.photo is not None


def test_an_unknown_product_or_scene_is_one_clear_error(line: Settings) -> None:
    before = files_of(line)
    result = run(line, "ball", "mug", "cup")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "mug, cup is no learned product of the catalog; expected some of ball, crate, tent" in (
        result.stderr
    )
    assert result.stdout == ""
    with pytest.raises(GenerationError, match="no scene 'moon'; expected one of wood"):
        preview_products(open_home(line), ["ball"], scene="moon")
    assert files_of(line) == before


@pytest.mark.parametrize("allowed", [False, {"default": False}])
def test_where_photos_are_kept_out_of_scenes_none_is_read(line: Settings, allowed: Any) -> None:
    with photos_opened() as opened:
        (strip,), _ = preview_products(open_home(changed(line, anchor_photos=allowed)), ["ball"])
    assert opened == []
    assert strip.photo is None
    assert set(strip.pictures) == {"learned"}
    assert strip.reason == "anchor_photos is off for collection 'default'"


def test_photos_that_have_gone_since_they_were_judged_leave_the_learned_picture(
    line: Settings,
) -> None:
    plan_night(open_home(line), date(2026, 1, 31))
    for photo in (line.catalog_root / "ball").glob("*.png"):
        photo.unlink()
    result = run(line, "ball", "crate")
    assert result.exit_code == 0, result.output
    ball, crate, _ = result.stdout.splitlines()
    assert ball.startswith("ball: learned; learned only: 'ball/")
    assert "is gone" in ball
    assert crate == "crate: learned, anchored, exact"
