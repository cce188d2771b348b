from __future__ import annotations

import shutil

import pytest
import torch

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.base import (
    choose_dtype,
    hash_model_folder,
    load_base_model,
    resolve_base_model,
)
from catalog_pipeline.errors import BaseModelError
from catalog_pipeline.settings import BaseModelSettings


def test_embedded_is_the_default_and_opens_frozen():
    base = load_base_model(BaseModelSettings())
    assert base.sample_size_px == 128
    assert base.vae_scale_factor == 4
    assert base.scheduler_config["prediction_type"] == "v_prediction"
    assert not any(p.requires_grad for p in base.unet.parameters())


def test_hash_follows_content_not_place(tiny_model_folder, tmp_path):
    copy = shutil.copytree(tiny_model_folder, tmp_path / "copy")
    assert hash_model_folder(copy) == hash_model_folder(tiny_model_folder)
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + " ")
    assert hash_model_folder(copy) != hash_model_folder(tiny_model_folder)


def test_missing_and_incomplete_folders_say_what_to_do(tmp_path):
    with pytest.raises(BaseModelError, match=r"not a folder.*offline"):
        resolve_base_model(BaseModelSettings(base_model=str(tmp_path / "none")))
    (tmp_path / "half" / "unet").mkdir(parents=True)
    with pytest.raises(BaseModelError, match="lacks vae, text_encoder"):
        resolve_base_model(BaseModelSettings(base_model=str(tmp_path / "half")))


def test_broken_weights_are_one_clear_error(tmp_path):
    copy = shutil.copytree(EMBEDDED_WEIGHTS, tmp_path / "copy")
    (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(BaseModelError, match="cannot be opened"):
        load_base_model(BaseModelSettings(base_model=str(copy)))


def test_dtype_choice():
    assert choose_dtype("float32", torch.device("cpu")) is torch.float32
    assert choose_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
