"""A path that is no diffusers folder is told for what it is, with the way to one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from catalog_pipeline.diffusion.base import resolve_base_model
from catalog_pipeline.errors import BaseModelError
from catalog_pipeline.settings import BaseModelSettings
from tests.tiny_model import write_tiny_model


def refusal(path: Path) -> str:
    with pytest.raises(BaseModelError) as caught:
        resolve_base_model(BaseModelSettings(base_model=str(path)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def checkpoint(path: Path, *names: str) -> Path:
    """A real safetensors file whose tensors have these names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.zeros(1) for name in names}, path)
    return path


UNET = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            [UNET, "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"],
            "write one with StableDiffusionPipeline.from_single_file('{file}')"
            ".save_pretrained(FOLDER)",
        ),
        ([UNET, "cond_stage_model.model.ln_final.weight"], "StableDiffusionPipeline.from_single"),
        (
            [UNET, "conditioner.embedders.0.transformer.x", "conditioner.embedders.1.model.x"],
            "StableDiffusionXLPipeline",
        ),
        (
            [UNET, "conditioner.embedders.0.model.transformer.x"],
            "it is of a StableDiffusionXLImg2ImgPipeline; supported are",
        ),
        (
            ["model.diffusion_model.joint_blocks.0.x", "text_encoders.clip_g.transformer.x"],
            "StableDiffusion3Pipeline",
        ),
        (["joint_blocks.0.x_block.attn.qkv.weight"], "the denoiser of a StableDiffusion3Pipeline"),
        (
            ["double_blocks.0.img_attn.qkv.weight", "double_stream_modulation_img.lin.weight"],
            "the denoiser of a Flux2KleinPipeline or Flux2Pipeline alone, without text encoder",
        ),
        (
            ["model.diffusion_model.double_blocks.0.img_mod.lin.weight"],
            "the denoiser of a FluxPipeline alone",
        ),
        (
            ["transformer_blocks.0.img_mod.1.weight", "txt_norm.weight"],
            "the denoiser of a QwenImagePipeline alone",
        ),
        ([UNET], "the denoiser of a StableDiffusionPipeline alone"),
        (["lora_unet_down_blocks_0.lora_down.weight"], "it is a LoRA, not a base"),
        (["unet.down_blocks.0.to_q.lora_A.weight"], "it is a LoRA, not a base"),
        (["a.weight"], "if it is a whole model, StableDiffusionPipeline (or the pipeline class"),
    ],
)
def test_a_checkpoint_in_one_file_is_told_by_its_names(tmp_path, names, said) -> None:
    file = checkpoint(tmp_path / "model's v1.safetensors", *names)
    assert "is a single file; expected a diffusers folder" in refusal(file)
    assert said.replace("'{file}'", repr(str(file))) in refusal(file)
    # A folder that holds nothing else is told by its file.
    assert refusal(tmp_path).endswith(refusal(file).partition(": ")[2])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.ckpt", b"\x80\x02}", "it is pickled: of a maker whom you trust,"),
        ("model.gguf", b"GGUF\x03\0\0\0", "GGUF holds a quantised denoiser alone"),
        ("model.safetensors", b"", "it is empty"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("model.safetensors", b"\x10\0\0\0\0\0\0\0{", "nor is it a whole safetensors file"),
        ("picture.png", b"\x89PNG", "is a single file; expected a diffusers folder"),
    ],
)
def test_other_files_are_told_by_their_kind(tmp_path, name, content, said) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refusal(tmp_path / name)


def test_a_file_of_a_diffusers_folder_names_the_folder(tmp_path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    assert f"name the folder, {folder}" in refusal(folder / "model_index.json")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert "it is the weights of one part; name the folder with model_index.json above" in refusal(
        weights
    )


@pytest.mark.parametrize("below", ["model", "snapshots/0a1b", "models--org--name/snapshots/0a1b"])
def test_a_folder_above_the_model_names_the_model(tmp_path, below) -> None:
    write_tiny_model(tmp_path / "top" / below)
    assert f"the diffusers folder is further down; name {tmp_path / 'top' / below}" in refusal(
        tmp_path / "top"
    )


@pytest.mark.parametrize("place", ["", "models"])
def test_the_folders_of_comfyui_are_known(tmp_path, place) -> None:
    for name in ("checkpoints", "vae", "unet", "text_encoders"):
        (tmp_path / place / name).mkdir(parents=True)
    checkpoint(tmp_path / place / "checkpoints" / "model.safetensors", UNET)
    said = refusal(tmp_path)
    assert "it is laid out for ComfyUI; expected a diffusers folder" in said
    assert f"{tmp_path / place / 'checkpoints'}" in said
