from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.base import (
    choose_dtype,
    hash_model_folder,
    load_base_model,
    resolve_base_model,
)
from catalog_pipeline.errors import BaseModelError
from catalog_pipeline.settings import BaseModelSettings
from tests.tiny_model import write_tiny_xl


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


def test_what_a_file_manager_leaves_in_the_folder_is_no_part_of_the_model(tiny_model_folder, copy):
    for name in ("unet/._config.json", "unet/.DS_Store", "vae/.cache/x.json"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"\x00\x05\x16\x07")
    resolve_base_model(BaseModelSettings(base_model=str(copy)))
    assert hash_model_folder(copy) == hash_model_folder(tiny_model_folder)


def refusal(path: Path) -> str:
    """What the door says to ``path``: one line, before any weight is read."""
    with pytest.raises(BaseModelError) as caught:
        resolve_base_model(BaseModelSettings(base_model=str(path)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_and_incomplete_folders_say_what_to_do(tmp_path):
    assert "is not a folder, and offline is true" in refusal(tmp_path / "none")
    (tmp_path / "half" / "unet").mkdir(parents=True)
    assert "lacks vae, text_encoder" in refusal(tmp_path / "half")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "single file; expected a diffusers folder" in refusal(tmp_path / "model.safetensors")


@pytest.fixture
def copy(tiny_model_folder, tmp_path) -> Path:
    """The tiny model, to be changed."""
    return shutil.copytree(tiny_model_folder, tmp_path / "copy")


def test_a_folder_without_an_index_is_known_by_its_parts(copy):
    (copy / "model_index.json").unlink()
    assert resolve_base_model(BaseModelSettings(base_model=str(copy))) == copy


@pytest.mark.parametrize(
    "pipeline",
    [
        "FluxPipeline",
        "Flux2Pipeline",
        "StableDiffusionInpaintPipeline",
        "FluxKontextPipeline",
        "QwenImageEditPipeline",
        "ZImagePipeline",
        "Lumina2Pipeline",
        None,
    ],
)
def test_another_pipeline_is_named_with_what_is_supported(copy, pipeline):
    (copy / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    said = refusal(copy)
    assert f"model_index.json says {pipeline}; supported are Stable Diffusion 1.x and 2.x" in said
    assert "StableDiffusionPipeline" in said
    assert "base_model.yaml: base_model" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 300, "File name too long"),
        ("a\nb", "is not a folder, and offline is true"),
    ],
)
def test_a_name_that_can_be_no_folder_is_refused(name, said):
    assert said in refusal(Path(name))


@pytest.mark.parametrize("written", ["{", "[]", '{"_class_name": ["a"]}', "[" * 100_000])
def test_a_damaged_index_is_refused(copy, written):
    (copy / "model_index.json").write_text(written)
    assert "model_index.json" in refusal(copy)


def test_a_unet_of_another_family_is_refused(tmp_path):
    folder = write_tiny_xl(tmp_path / "xl")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    said = refusal(folder)
    assert "its UNet reads the embedding 'text_time' besides the text, and one of Stable" in said
    (folder / "model_index.json").unlink()
    assert resolve_base_model(BaseModelSettings(base_model=str(folder))) == folder


@pytest.mark.parametrize(("channels", "kind"), [(9, "inpainting"), (8, "InstructPix2Pix")])
def test_a_unet_for_other_tasks_is_refused(copy, channels, kind):
    unet = UNet2DConditionModel.from_pretrained(copy / "unet")
    config = {**unet.config, "in_channels": channels}
    UNet2DConditionModel.from_config(config).save_pretrained(copy / "unet")
    said = refusal(copy)
    assert f"in_channels {channels}" in said
    assert kind in said


def test_a_target_that_nobody_trains_is_refused(copy):
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "sample"}))
    assert "prediction_type 'sample'; expected epsilon or v_prediction" in refusal(copy)


WEIGHTS = "diffusion_pytorch_model.safetensors"


def cut_off(unet: Path) -> None:
    path = unet / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def pickled(unet: Path) -> None:
    (unet / WEIGHTS).unlink()
    (unet / "diffusion_pytorch_model.bin").write_bytes(b"never read")


def in_shards(unet: Path) -> None:
    whole = UNet2DConditionModel.from_pretrained(unet)
    (unet / WEIGHTS).unlink()
    whole.save_pretrained(unet, max_shard_size="20KB")


def without_a_shard(unet: Path) -> None:
    in_shards(unet)
    sorted(unet.glob("diffusion_pytorch_model-*"))[1].unlink()


def half_precision_only(unet: Path) -> None:
    (unet / WEIGHTS).rename(unet / "diffusion_pytorch_model.fp16.safetensors")


def half_precision_shards_only(unet: Path) -> None:
    in_shards(unet)
    (unet / f"{WEIGHTS}.index.json").rename(unet / f"{WEIGHTS}.index.fp16.json")


def in_download(unet: Path) -> None:
    (unet / WEIGHTS).rename(unet / f"{WEIGHTS}.part")


def in_download_beside(unet: Path) -> None:
    """As the hub's client keeps what it has not finished under a local folder."""
    cache = unet.parent / ".cache" / "huggingface" / "download" / "unet"
    cache.mkdir(parents=True)
    (unet / WEIGHTS).rename(cache / "x.0a1b.incomplete")


def cut_off_in_the_header(unet: Path) -> None:
    path = unet / WEIGHTS
    path.write_bytes(path.read_bytes()[:100])


def longer_than_told(unet: Path) -> None:
    with (unet / WEIGHTS).open("ab") as stream:
        stream.write(b"more")


def pointer(unet: Path) -> None:
    (unet / WEIGHTS).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )


def link_to_nothing(unet: Path) -> None:
    (unet / WEIGHTS).unlink()
    (unet / WEIGHTS).symlink_to(unet / "blob")


def gguf(unet: Path) -> None:
    (unet / WEIGHTS).unlink()
    (unet / "unet-Q4_K.gguf").write_bytes(b"GGUF")


def wider_texts(unet: Path) -> None:
    path = unet / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cross_attention_dim": 768}))


def without_config(unet: Path) -> None:
    in_shards(unet)
    (unet / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda unet: (unet / WEIGHTS).unlink(),
            f"unet lacks the weights {WEIGHTS} and holds none",
        ),
        (cut_off, f"unet/{WEIGHTS} is not a whole safetensors file"),
        (pickled, "pickled weights are never opened"),
        (without_a_shard, "unet lacks the weights diffusion_pytorch_model-00002-of-"),
        (half_precision_only, f"rename diffusion_pytorch_model.fp16.safetensors to {WEIGHTS}"),
        (half_precision_shards_only, f"rename {WEIGHTS}.index.fp16.json to {WEIGHTS}.index.json"),
        (in_download, f"unet/{WEIGHTS}.part is a download that has not finished"),
        (in_download_beside, "x.0a1b.incomplete is a download that has not finished"),
        (cut_off_in_the_header, "it is cut off after 100 of"),
        (longer_than_told, f"unet/{WEIGHTS} is not a whole safetensors file"),
        (lambda unet: (unet / WEIGHTS).write_bytes(b""), f"unet/{WEIGHTS} is empty"),
        (pointer, "is a git-LFS pointer, not the file itself; run git lfs pull"),
        (link_to_nothing, f"{WEIGHTS} is a link to a file that is gone"),
        (gguf, "GGUF files are not opened; use the model's folder in bf16"),
        (wider_texts, "has the shape (16, 16), expected (16, 768): the weights of unet are not"),
        (lambda unet: (unet / "config.json").unlink(), "unet has no configuration"),
        (without_config, "unet lacks config.json"),
    ],
    ids=lambda value: getattr(value, "__name__", "") if callable(value) else value[:30],
)
def test_weights_that_are_not_there_whole_are_refused(
    copy: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(copy / "unet")
    assert message in refusal(copy)


def test_what_is_not_read_may_be_unfinished(copy):
    for name in ("diffusion_pytorch_model.fp16.safetensors", f"{WEIGHTS}.incomplete"):
        (copy / "unet" / name).write_text("version https://git-lfs.github.com/spec/v1")
    assert resolve_base_model(BaseModelSettings(base_model=str(copy))) == copy


def test_whole_shards_open(copy):
    in_shards(copy / "unet")
    assert not (copy / "unet" / WEIGHTS).exists()
    load_base_model(BaseModelSettings(base_model=str(copy)))


def test_broken_weights_are_one_clear_error(tmp_path):
    copy = shutil.copytree(EMBEDDED_WEIGHTS, tmp_path / "copy")
    (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(BaseModelError, match="cannot be opened"):
        load_base_model(BaseModelSettings(base_model=str(copy)))


def test_dtype_choice():
    assert choose_dtype("float32", torch.device("cpu")) is torch.float32
    assert choose_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
