"""The models that are measured, by the numbers of their configurations; weights are random.

Where the numbers come from: ``model_index.json`` and the ``config.json`` of each part of

- SD-1.5: ``stable-diffusion-v1-5/stable-diffusion-v1-5`` (the defaults of diffusers'
  ``UNet2DConditionModel`` are these, with a text width of 768 and 64 x 64 latents);
- SDXL: ``stabilityai/stable-diffusion-xl-base-1.0``;
- FLUX.2-klein-4B: ``black-forest-labs/FLUX.2-klein-base-4B``, whose text encoder is
  ``Qwen/Qwen3-4B`` (the defaults of ``Flux2Transformer2DModel`` are those of FLUX.2-dev).

The time of a step does not depend on the values of weights, but on shapes and types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.families.flux2_klein import Flux2Klein
from catalog_pipeline.diffusion.families.stable_diffusion import StableDiffusion
from catalog_pipeline.diffusion.families.stable_diffusion_xl import StableDiffusionXL

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Size:
    """One model and what is measured of it.

    Attributes:
        parts: sub-folder -> arguments of the class of a part, or of its configuration.
        side_px: of the pictures.
        guidance: of the pictures; 1 would leave the unguided half out.
        sampler: the solver, the same on both sides.
        batches: photos a learning step.
        steps: of a picture.
    """

    name: str
    family: type[BaseModel]
    parts: Mapping[str, Config]
    side_px: int
    guidance: float
    sampler: str
    batches: tuple[int, ...] = (1, 4)
    steps: int = 30


_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_SD_SCHEDULER = {**_NOISE, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
SD_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
_CLIP = {"bos_token_id": 2780, "eos_token_id": 2781, "pad_token_id": 2781}
"""Of the tokenizer that is at hand; the tables of tokens have the sizes of the originals."""
CLIP_L = {
    **_CLIP,
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CLIP_BIG_G = {
    **_CLIP,
    "vocab_size": 49408,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
SDXL_UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
KLEIN_TRANSFORMER = {
    "in_channels": 128,
    "num_layers": 5,
    "num_single_layers": 20,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "timestep_guidance_channels": 256,
    "mlp_ratio": 3.0,
    "axes_dims_rope": (32, 32, 32, 32),
    "rope_theta": 2000,
    "guidance_embeds": False,
}
QWEN3_4B = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
_FLOW = {"use_dynamic_shifting": True, "shift": 3.0}

FULL: tuple[Size, ...] = (
    Size(
        "SD-1.5",
        StableDiffusion,
        {
            "unet": {"sample_size": 64, "cross_attention_dim": 768},
            "vae": {**SD_VAE, "scaling_factor": 0.18215},
            "text_encoder": CLIP_L,
            "scheduler": _SD_SCHEDULER,
        },
        side_px=512,
        guidance=7.5,
        sampler="dpmsolver++",
    ),
    Size(
        "SDXL",
        StableDiffusionXL,
        {
            "unet": SDXL_UNET,
            "vae": {**SD_VAE, "scaling_factor": 0.13025, "sample_size": 1024},
            "text_encoder": CLIP_L,
            "text_encoder_2": CLIP_BIG_G,
            "scheduler": _SD_SCHEDULER,
        },
        side_px=1024,
        guidance=5.0,
        sampler="dpmsolver++",
    ),
    Size(
        "FLUX.2-klein-4B",
        Flux2Klein,
        {
            "transformer": KLEIN_TRANSFORMER,
            "vae": {},
            "text_encoder": QWEN3_4B,
            "scheduler": _FLOW,
        },
        side_px=1024,
        guidance=4.0,
        sampler="euler",
    ),
)
