"""Tiny Stable Diffusion folders: real diffusers classes, random weights, milliseconds a step."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.settings import AdapterSettings, BaseModelSettings


def write_tiny_model(folder: Path, prediction_type: str = "v_prediction") -> Path:
    """Write a 16 px model (latents 4 x 4 x 4) to ``folder``; the tokenizer is the embedded one."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=4,
    )
    vae = _vae()
    text = CLIPTextModel(_text_config(16))
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
        steps_offset=1,
    )
    for name, part in (
        ("unet", unet),
        ("vae", vae),
        ("text_encoder", text),
        ("scheduler", scheduler),
    ):
        part.save_pretrained(folder / name)
    shutil.copytree(EMBEDDED_WEIGHTS / "tokenizer", folder / "tokenizer")
    shutil.copy(EMBEDDED_WEIGHTS / "model_index.json", folder / "model_index.json")
    return folder


def open_tiny_engine(
    folder: Path, dtype: str = "float32", adapter: AdapterSettings | None = None
) -> DiffusionEngine:
    """An engine over the tiny model in ``folder``: rank 2, a slot per concept."""
    source = BaseModelSettings(base_model=str(folder), dtype=dtype)
    return DiffusionEngine(load_base_model(source), adapter or AdapterSettings(rank=2))


def fill_slot(engine: DiffusionEngine, slot: str, seed: int, scale: float = 0.3) -> torch.Generator:
    """Add a slot of random contents that change the picture; the generator they came from."""
    generator = torch.Generator().manual_seed(seed)
    engine.adapter.add_slot(slot, generator)
    with torch.no_grad():
        for parameter in engine.adapter.parameters_of(slot):
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    engine.adapter.parameters_changed()
    return generator


def write_tiny_xl(folder: Path) -> Path:
    """Write a Stable Diffusion XL of the same size, noise-predicting, to ``folder``."""
    from diffusers import StableDiffusionXLPipeline

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=16 + 24,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 12,
    )
    tokenizer = CLIPTokenizer.from_pretrained(EMBEDDED_WEIGHTS / "tokenizer")
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(16)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(24, projection_dim=12)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.6,
    )


def _text_config(width: int, **changes: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=2782,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=2780,
        eos_token_id=2781,
        pad_token_id=2781,
        **changes,
    )
