"""A picture of a size that the base does not make: every entry says so, before a weight is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from catalog_pipeline.base_model import EMBEDDED_SIZE_STEP_PX, EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.outline import read_size_step
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.generation.planner import choose_width
from catalog_pipeline.settings import GenerationSettings, Settings
from catalog_pipeline.workflows.evaluate.evaluate import evaluate
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.models import check_picture_size, open_engine
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.preview_night import preview_night
from catalog_pipeline.workflows.night.preview_products import preview_products
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from tests.tiny_model import write_tiny_model

GOLDEN = Path(__file__).resolve().parents[1] / "stores" / "golden" / "schema_1"
DAY = date(2026, 3, 2)
MESSAGE = "width is 24, and the sides of this base's pictures are multiples of 16 pixels; set it "


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose VAE takes 16 pixels to one latent."""
    folder = write_tiny_model(tmp_path_factory.mktemp("coarse") / "model")
    torch.manual_seed(0)
    shutil.rmtree(folder / "vae")
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        block_out_channels=(4,) * 5,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    ).save_pretrained(folder / "vae")
    return folder


@pytest.fixture
def settings(make_settings: Callable[..., Settings], coarse: Path) -> Settings:
    """A home with products that are learned, and a night of pictures 24 pixels wide."""
    made = make_settings(
        base_model={"base_model": str(coarse), "dtype": "float32", "threads": 1},
        generation={"width": 24, "height": 32},
    )
    shutil.copytree(GOLDEN, made.home, dirs_exist_ok=True)
    return made


@pytest.mark.parametrize(
    "enter",
    [
        lambda settings: plan_night(open_home(settings), DAY),
        lambda settings: preview_night(open_home(settings), DAY),
        lambda settings: preview_products(open_home(settings), ["00123"]),
        lambda settings: evaluate(open_home(settings)),
    ],
    ids=["plan", "dry run", "preview", "evaluate"],
)
def test_every_entry_refuses_a_size_between_two_steps(
    settings: Settings, enter: Callable[[Settings], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseModel, "open", None)
    with pytest.raises(ConfigurationError, match=f"{MESSAGE}to 16 or 32$"):
        enter(settings)


def test_doctor_names_the_size_and_what_is_near(settings: Settings) -> None:
    told = [one for one in run_doctor(open_home(settings)) if one.what.startswith("pictures: ")]
    assert [(one.level, MESSAGE in one.what) for one in told] == [("error", True)]
    fine = settings.generation.model_copy(update={"width": 48})
    settings = settings.model_copy(update={"generation": fine})
    (told,) = [one for one in run_doctor(open_home(settings)) if one.what.startswith("pictures: ")]
    assert told.what == "pictures: 48 x 32 pixels, by the base's step of 16"
    assert told.level == "ok"


def test_the_step_of_configurations_is_that_of_the_opened_base(
    settings: Settings, coarse: Path, tiny_model_folder: Path
) -> None:
    assert read_size_step(coarse) == open_engine(settings).base.size_step_px == 16
    assert read_size_step(tiny_model_folder) == 4
    assert read_size_step(EMBEDDED_WEIGHTS) == EMBEDDED_SIZE_STEP_PX


def test_no_size_that_the_embedded_base_makes_is_refused(
    make_settings: Callable[..., Settings],
) -> None:
    for side in range(16, 512, 8):
        asked = make_settings(generation={"width": side, "height": 520 - side})
        assert check_picture_size(asked) == 4


def test_pictures_of_several_products_are_wider_by_the_step() -> None:
    asked = GenerationSettings(width=144, widening=0.5)
    assert [choose_width(asked, products) for products in (1, 2, 3)] == [144, 216, 288]
    assert [choose_width(asked, products, 16) for products in (1, 2, 3)] == [144, 224, 288]
    assert [choose_width(asked, products, 4) for products in (1, 2, 3)] == [144, 216, 288]
