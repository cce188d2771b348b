"""The networks and the noise schedule, in the shapes of the embedded weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from catalog_pipeline.base_model.training.presets import Architecture

POSTERIOR_STD = 0.02
"""Standard deviation of every latent value given the picture, in units of raw latents."""

_LATENT_CHANNELS = 4
_CLIP_POSITIONS = 77


def vae(architecture: Architecture | None = None) -> Any:
    """An untrained VAE: images ``(b, 3, s, s)`` in -1..1, latents ``(b, 4, s / 4, s / 4)``."""
    sizes = architecture or Architecture()
    levels = len(sizes.vae_channels)
    model = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=sizes.vae_channels,
        layers_per_block=1,
        latent_channels=_LATENT_CHANNELS,
        norm_num_groups=_norm_groups(sizes.vae_channels),
        sample_size=sizes.image_px,
        mid_block_add_attention=False,
    )
    fix_posterior_std(model)
    return model


def _norm_groups(channels: tuple[int, ...]) -> int:
    """Two channels a group at the narrowest level.

    One channel a group would take the mean out of every channel of the last
    normalisation: no picture could be brighter or redder than another.
    """
    return channels[0] // 2


def fix_posterior_std(model: Any) -> None:
    """Make the encoder answer ``POSTERIOR_STD`` everywhere, in place; idempotent.

    The decoder learns under noise of exactly this size, so that
    ``latent_dist.sample()`` gives latents it knows. The log-variance half of
    ``quant_conv`` is no part of any loss and would otherwise stay random.
    """
    with torch.no_grad():
        model.quant_conv.weight[_LATENT_CHANNELS:].zero_()
        model.quant_conv.bias[_LATENT_CHANNELS:].fill_(2 * math.log(POSTERIOR_STD))


def unet(architecture: Architecture | None = None) -> Any:
    """An untrained UNet with cross-attention at the two lower resolutions only."""
    sizes = architecture or Architecture()
    return UNet2DConditionModel(
        sample_size=sizes.latent_px,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        block_out_channels=sizes.unet_channels,
        layers_per_block=sizes.unet_layers,
        cross_attention_dim=sizes.text_width,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=_norm_groups(sizes.unet_channels),
    )


def text_encoder(
    vocab_size: int, bos: int, eos: int, architecture: Architecture | None = None
) -> Any:
    """An untrained CLIP text model over a vocabulary whose special ids are ``bos`` and ``eos``."""
    sizes = architecture or Architecture()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=sizes.text_width,
            intermediate_size=4 * sizes.text_width,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=4,
            max_position_embeddings=_CLIP_POSITIONS,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=eos,
            projection_dim=sizes.text_width,
        )
    )


def scheduler() -> Any:
    """v-prediction on the squared-cosine schedule, 1000 steps, trailing when sampling."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="trailing",
    )
