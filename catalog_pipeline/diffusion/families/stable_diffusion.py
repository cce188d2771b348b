"""Stable Diffusion 1.x and 2.x: a UNet with cross-attention on one CLIP text encoder.

Training (``a_t`` is the product of ``1 - beta`` up to ``t``, ``z`` latents, ``eps`` unit
normal noise)::

    noisy_latents = sqrt(a_t) z + sqrt(1 - a_t) eps
    target        = eps                                    epsilon, arXiv:2006.11239
                  = sqrt(a_t) eps - sqrt(1 - a_t) z        v_prediction, arXiv:2202.00512
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from catalog_pipeline.diffusion.export import inversion_token
from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.families.interchange import KohyaPlace
from catalog_pipeline.diffusion.regional import install_regional_attention
from catalog_pipeline.diffusion.routed_linear import Rows
from catalog_pipeline.diffusion.text import PlaceholderConditioner, TextConditioner, add_tokens
from catalog_pipeline.settings import AdapterSettings

_LAYER_KINDS = {"attn1": "self", "attn2": "cross", "ff": "feed_forward"}
_FEED_FORWARD = ("net.0.proj", "net.2")
"""Of a diffusers ``FeedForward``: into its hidden width, and back."""
_AROUND = (".proj_in", ".proj_out")
"""Of a stack of attentions: in and out. Linear layers in Stable Diffusion 2.x and XL."""
_OTHER_UNETS = {9: "an inpainting model", 8: "an InstructPix2Pix model", 7: "an upscaler"}
"""By the channels that their UNets read."""


def _blocks(settings: AdapterSettings) -> tuple[str, ...]:
    """How the paths of the UNet's blocks begin that a slot moves."""
    return tuple(f"{block}_block" for block in settings.blocks)


class StableDiffusion(BaseModel):
    """UNet and VAE compute in ``dtype`` and channels-last, the text encoder in fp32."""

    title = "Stable Diffusion 1.x and 2.x"
    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
    )
    pipeline_options: ClassVar[Mapping[str, Any]] = {
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    part_classes: ClassVar[Mapping[str, type]] = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "tokenizer": CLIPTokenizer,
        "scheduler": DDIMScheduler,
    }
    half_parts = ("unet", "vae")
    learns_rows = True
    denoiser_part = "unet"
    solvers: ClassVar[Mapping[str, Any]] = {
        "dpmsolver++": DPMSolverMultistepScheduler,
        "ddim": DDIMScheduler,
        "euler": EulerDiscreteScheduler,
    }

    added_embedding: ClassVar[str | None] = None
    """``addition_embed_type`` of the UNet."""

    @property
    def unet(self) -> Any:
        """``UNet2DConditionModel``."""
        return self.parts["unet"]

    @property
    def vae(self) -> Any:
        """``AutoencoderKL``."""
        return self.parts["vae"]

    @property
    def text_encoder(self) -> Any:
        """``CLIPTextModel``."""
        return self.parts["text_encoder"]

    @property
    def tokenizer(self) -> Any:
        """``CLIPTokenizer``."""
        return self.parts["tokenizer"]

    @classmethod
    def find_misfit(cls, configs: Mapping[str, Mapping[str, Any]]) -> str | None:
        """A UNet that reads more than latents, timesteps and one text, or another target."""
        unet = configs["unet"]
        channels = unet.get("in_channels", 4)
        latent_channels = configs["vae"].get("latent_channels", 4)
        if channels != latent_channels:
            other = _OTHER_UNETS.get(channels, "a model of another kind")
            return (
                f"its UNet has in_channels {channels}, the latents have {latent_channels}: "
                f"{other}, not one from text to image"
            )
        added = unet.get("addition_embed_type") or unet.get("class_embed_type")
        if added != cls.added_embedding:
            return (
                f"its UNet reads the embedding {added!r} besides the text, and one of {cls.title} "
                f"reads {cls.added_embedding!r}"
            )
        prediction_type = configs["scheduler"].get("prediction_type", "epsilon")
        if prediction_type not in ("epsilon", "v_prediction"):
            return (
                f"its scheduler has the prediction_type {prediction_type!r}; expected epsilon or "
                "v_prediction"
            )
        return None

    def encode(self, pixels: Tensor) -> Tensor:
        """The mean of the VAE's posterior, times its scaling factor."""
        with self._vae_in_range():
            pixels = pixels.to(self.vae.dtype).contiguous(memory_format=torch.channels_last)
            mean = self.vae.encode(pixels).latent_dist.mean.float()
        return mean * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """``(batch, channels, h, w)`` -> ``(batch, 3, height, width)``."""
        with self._vae_in_range():
            scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
            scaled = scaled.contiguous(memory_format=torch.channels_last)
            return self.vae.decode(scaled, return_dict=False)[0].float()

    @contextmanager
    def _vae_in_range(self) -> Iterator[None]:
        """The VAE in fp32 inside the block where it is one that overflows fp16."""
        overflows = self.vae.dtype == torch.float16 and self.vae.config.force_upcast
        if overflows:
            nn.Module.to(self.vae, torch.float32)
        try:
            yield
        finally:
            if overflows:
                nn.Module.to(self.vae, torch.float16)

    def text_conditioner(self) -> TextConditioner:
        """Over the one text encoder."""
        return PlaceholderConditioner(self.tokenizer, self.text_encoder)

    def delta_layers(self, settings: AdapterSettings) -> dict[str, Rows]:
        """Projections of the attentions and, if asked for, of the feed-forward behind them.

        Also the linear layers around them, which kohya's trainers move: only imported slots do.
        """
        layers: dict[str, Rows] = {}
        for name, module in self.unet.named_modules():
            if name.endswith(_AROUND) and isinstance(module, nn.Linear):
                layers[name] = "image"
            kind = _LAYER_KINDS.get(name.rsplit(".", 1)[-1])
            if kind == "feed_forward" and settings.feed_forward:
                layers |= {f"{name}.{target}": "image" for target in _FEED_FORWARD}
            elif kind in settings.attentions:
                for target in settings.targets:
                    on_text = kind == "cross" and target in ("to_k", "to_v")
                    layers[f"{name}.{target}"] = "text" if on_text else "image"
        return layers

    def trained_layers(self, settings: AdapterSettings) -> list[str]:
        """Those of ``settings.blocks`` in the attentions and behind them."""
        layers = [n for n in self.delta_layers(settings) if n.startswith(_blocks(settings))]
        return [name for name in layers if not name.endswith(_AROUND)]

    def install_attention(self, settings: AdapterSettings) -> None:
        """Cross-attention by region; self-attention as it is."""
        install_regional_attention(self.unet, self.regions, _blocks(settings))

    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        encoder_hidden_states: Tensor,
        masks: Tensor | None,
    ) -> Tensor:
        """One pass of the UNet; its cross-attention reads every region's text."""
        with self.regions.reading(encoder_hidden_states, masks):
            model_pred = self.unet(
                noisy_latents.to(self.dtype).contiguous(memory_format=torch.channels_last),
                timesteps,
                encoder_hidden_states[:, 0].to(self.dtype),
                return_dict=False,
            )[0]
        return model_pred.float()

    @property
    def probe_end(self) -> nn.Module:
        """The decoder: at the UNet's middle every resolution has been seen, at 40 % of the cost."""
        return self.unet.up_blocks[0]

    @cached_property
    def _noise_schedule(self) -> Any:
        return DDIMScheduler.from_config(self.scheduler_config)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """``sqrt(a_t) z + sqrt(1 - a_t) eps``."""
        return self._noise_schedule.add_noise(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noise or the velocity, as the scheduler's prediction type says."""
        if self.scheduler_config["prediction_type"] == "epsilon":
            return noise
        return self._noise_schedule.get_velocity(latents, noise, timesteps)

    def product_words(self, sku: str, tokens: Sequence[str], *, beside_lora: bool) -> str:
        """``<sku>``, which diffusers expands to all rows, or the tokens themselves."""
        return inversion_token(sku) if beside_lora else " ".join(tokens)

    def kohya_place(self, layer: str) -> KohyaPlace:
        """The path with ``_`` for every dot."""
        return KohyaPlace(layer.replace(".", "_"))

    @property
    def kohya_base_version(self) -> str | None:
        """By the width of the text: 768 of 1.x, 1,024 of 2.x."""
        width, v = self.unet.config.cross_attention_dim, self.scheduler_config["prediction_type"]
        return {
            768: "sd_v1",
            1024: "sd_v2_v" if v == "v_prediction" else "sd_v2",
        }.get(width)

    def read_lora(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In the names of PEFT, as diffusers' own loading goes on to convert them."""
        return dict(convert_unet_state_dict_to_peft(super().read_lora(tensors)))

    def inversion_rows(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The only tensor: of diffusers by the token's name, of others ``emb_params``."""
        return checked_rows(tensors, [next(iter(tensors), "")], [self.text_encoder])

    def inversion_state_dict(self, token: str, rows: Tensor) -> dict[str, Tensor]:
        """One tensor of all rows."""
        return {token: rows.contiguous()}

    def add_tokens(self, rows: Mapping[str, Tensor]) -> None:
        """To the one tokenizer and text encoder."""
        add_tokens(self.tokenizer, self.text_encoder, rows)


def checked_rows(
    tensors: Mapping[str, Tensor], keys: Sequence[str], text_encoders: Sequence[Any]
) -> Tensor:
    """``(tokens, width)``: the tensors ``keys`` side by side, each as wide as its encoder."""
    widths = [int(encoder.config.hidden_size) for encoder in text_encoders]
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    rows = [
        tensors[key].float().reshape(-1, tensors[key].shape[-1]) for key in keys if key in found
    ]
    fits = [row.shape[1] for row in rows] == widths and len({len(row) for row in rows}) == 1
    if set(found) != set(keys) or not fits:
        expected = ", ".join(f"(tokens, {width})" for width in widths)
        raise ValueError(f"the embeddings are {found}, expected {expected} of this base")
    return torch.cat(rows, 1)
