"""Models of the same kinds for a CPU: one that takes a second a step, one for the dry run."""

from __future__ import annotations

from dataclasses import replace

from tests.benchmarks.gpu.sizes import (
    CLIP_BIG_G,
    CLIP_L,
    FULL,
    KLEIN_TRANSFORMER,
    QWEN3_4B,
    SD_VAE,
    SDXL_UNET,
    Config,
    Size,
)

_SMALL_VAE = {**SD_VAE, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1}
_SMALL_QWEN3 = {
    **QWEN3_4B,
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}


def _small_clip(config: Config, width: int) -> Config:
    small = {"vocab_size": 2782, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "projection_dim": width}
    return {**config, **small, **sizes}


def _with_parts(size: Size, **parts: Config) -> Size:
    return replace(size, parts={**size.parts, **parts})


def _middle() -> tuple[Size, ...]:
    sd, xl, klein = FULL
    unet = {"block_out_channels": (128, 256, 256, 256), "layers_per_block": 1}
    return (
        replace(
            _with_parts(
                sd,
                unet={**sd.parts["unet"], **unet, "cross_attention_dim": 256},
                vae=_SMALL_VAE,
                text_encoder=_small_clip(CLIP_L, 256),
            ),
            side_px=128,
        ),
        replace(
            _with_parts(
                xl,
                unet={
                    **SDXL_UNET,
                    "block_out_channels": (128, 256, 512),
                    "transformer_layers_per_block": (1, 2, 4),
                    "attention_head_dim": (2, 4, 8),
                    "layers_per_block": 1,
                    "cross_attention_dim": 512,
                    "addition_time_embed_dim": 32,
                    "projection_class_embeddings_input_dim": 6 * 32 + 256,
                },
                vae=_SMALL_VAE,
                text_encoder=_small_clip(CLIP_L, 256),
                text_encoder_2=_small_clip(CLIP_BIG_G, 256),
            ),
            side_px=128,
        ),
        replace(
            _with_parts(
                klein,
                transformer={
                    **KLEIN_TRANSFORMER,
                    "num_layers": 1,
                    "num_single_layers": 3,
                    "attention_head_dim": 64,
                    "num_attention_heads": 8,
                    "joint_attention_dim": 3 * 256,
                    "axes_dims_rope": (16, 16, 16, 16),
                },
                vae={**_SMALL_VAE, "latent_channels": 32},
                text_encoder=_SMALL_QWEN3,
            ),
            side_px=128,
        ),
    )


MIDDLE: tuple[Size, ...] = tuple(replace(size, steps=4, batches=(1,)) for size in _middle())
"""Widths of 128 to 512 and 128 px: what a CPU does in a second."""


def _tiny() -> tuple[Size, ...]:
    sd, xl, klein = MIDDLE
    unet = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 16}
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    vae = {
        **_SMALL_VAE,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (16, 16),
        "norm_num_groups": 8,
    }
    return (
        _with_parts(
            sd,
            unet={**unet, **blocks, "cross_attention_dim": 64, "attention_head_dim": 4},
            vae=vae,
            text_encoder=_small_clip(CLIP_L, 64),
        ),
        _with_parts(
            xl,
            unet={
                **SDXL_UNET,
                **unet,
                **blocks,
                "transformer_layers_per_block": (1, 1),
                "attention_head_dim": (2, 4),
                "cross_attention_dim": 128,
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 6 * 8 + 64,
            },
            vae=vae,
            text_encoder=_small_clip(CLIP_L, 64),
            text_encoder_2=_small_clip(CLIP_BIG_G, 64),
        ),
        _with_parts(
            klein,
            transformer={
                **KLEIN_TRANSFORMER,
                "in_channels": 32,
                "num_layers": 1,
                "num_single_layers": 1,
                "attention_head_dim": 16,
                "num_attention_heads": 2,
                "joint_attention_dim": 3 * 32,
                "axes_dims_rope": (4, 4, 4, 4),
            },
            vae={**vae, "latent_channels": 8},
            text_encoder={
                **_SMALL_QWEN3,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 16,
            },
        ),
    )


TINY: tuple[Size, ...] = tuple(replace(size, side_px=16, steps=2, batches=(2,)) for size in _tiny())
"""For the dry run."""
