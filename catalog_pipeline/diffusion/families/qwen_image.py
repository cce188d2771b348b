"""Qwen-Image: a transformer of double blocks on the last hidden state of Qwen2.5-VL.

Latents are those of the VAE in patches of 2 x 2, ``(batch, 64, h, w)`` of 16 pixels each, normed
by ``latents_mean`` and ``latents_std``. A text has a last column that is 1 at words and 0 at
padding, which nobody reads. A product is a word that means nothing and its slot
(:mod:`..language_model_text`). The pipeline's own attention refuses a mask from outside; the one
here takes its place, and regions are that of :mod:`..joint_attention`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageTransformer2DModel,
)
from diffusers.models.transformers.transformer_qwenimage import apply_rotary_emb_qwen
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from catalog_pipeline.diffusion.families.interchange import KohyaPlace
from catalog_pipeline.diffusion.families.joint_transformer import JointTransformer
from catalog_pipeline.diffusion.joint_attention import join_streams, joint_attend, text_length
from catalog_pipeline.diffusion.language_model_text import LanguageModelConditioner
from catalog_pipeline.diffusion.prompts import qwen_image_prompts
from catalog_pipeline.diffusion.regional import RegionalContext
from catalog_pipeline.diffusion.routed_linear import Rows
from catalog_pipeline.diffusion.text import TextConditioner
from catalog_pipeline.settings import AdapterSettings


class QwenImage(JointTransformer):
    """Qwen-Image from text; not the one that edits."""

    title = "Qwen-Image"
    pipelines = ("QwenImagePipeline",)
    part_classes: ClassVar[Mapping[str, type]] = {
        "transformer": QwenImageTransformer2DModel,
        "vae": AutoencoderKLQwenImage,
        "text_encoder": Qwen2_5_VLForConditionalGeneration,
        "tokenizer": Qwen2Tokenizer,
        "scheduler": FlowMatchEulerDiscreteScheduler,
    }
    half_parts = ("transformer", "vae", "text_encoder")
    feed_forwards: ClassVar[Mapping[str, Rows]] = {
        "img_mlp.net.0.proj": "image",
        "img_mlp.net.2": "image",
        "txt_mlp.net.0.proj": "texts",
        "txt_mlp.net.2": "texts",
    }

    @classmethod
    def find_misfit(cls, configs: Mapping[str, Mapping[str, Any]]) -> str | None:
        """A transformer that reads more than a text: guidance, layers or a second picture."""
        for name in ("guidance_embeds", "use_additional_t_cond", "use_layer3d_rope", "zero_cond_t"):
            if configs["transformer"].get(name):
                return f"its transformer has {name}, as models that edit or are distilled have"
        return None

    guidance_argument = "true_cfg_scale"
    kohya_base_version = "qwen_image"

    @property
    def noise_code(self) -> str:
        """Packed latents: the pipeline draws its own before it makes patches of them."""
        sides = ", ".join(f"{side} // {self.vae_scale_factor}" for side in ("height", "width"))
        return (
            f"latents=torch.randn(1, {self.latent_channels}, {sides}, "
            "generator=torch.Generator().manual_seed(seed)).flatten(2).mT"
        )

    def call_arguments(self, steps: int, guidance: float) -> str:
        """The pipeline guides where it has a negative prompt."""
        negative = ', negative_prompt=""' if guidance > 1 else ""
        return super().call_arguments(steps, guidance) + negative

    def kohya_place(self, layer: str) -> KohyaPlace:
        """The path with ``_`` for every dot, as musubi-tuner writes it."""
        return KohyaPlace(layer.replace(".", "_"))

    @property
    def latent_channels(self) -> int:
        """Those of a patch, 64."""
        return int(self.transformer.config.in_channels)

    @property
    def vae_scale_factor(self) -> int:
        """Two for every level at which the VAE halves a side, and two of a patch: 16."""
        return int(2 ** (1 + len(self.vae.temperal_downsample)))

    def encode(self, pixels: Tensor) -> Tensor:
        """The mean of the posterior in patches, normed channel by channel."""
        frames = pixels.to(self.vae.dtype)[:, :, None]  # (batch, 3, 1, height, width)
        latents = self.vae.encode(frames).latent_dist.mode()[:, :, 0].float()
        mean, deviation = self._latent_statistics
        return nn.functional.pixel_unshuffle((latents - mean) / deviation, 2)

    def decode(self, latents: Tensor) -> Tensor:
        """``(batch, channels, h, w)`` -> ``(batch, 3, height, width)``."""
        mean, deviation = self._latent_statistics
        latents = nn.functional.pixel_shuffle(latents.float(), 2) * deviation + mean
        frames = latents[:, :, None].to(self.vae.dtype)
        return self.vae.decode(frames, return_dict=False)[0][:, :, 0].float()

    @property
    def _latent_statistics(self) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, deviation = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, deviation

    def text_conditioner(self) -> TextConditioner:
        """Over the last layer of Qwen2.5-VL."""
        prompts = qwen_image_prompts(self.parts["tokenizer"])
        return _QwenConditioner(prompts, self.parts["text_encoder"])

    def install_attention(self, settings: AdapterSettings) -> None:
        """Every block by region."""
        del settings
        for block in self.transformer.transformer_blocks:
            block.attn.set_processor(_Processor(self.regions))

    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        encoder_hidden_states: Tensor,
        masks: Tensor | None,
    ) -> Tensor:
        """One pass; the texts of all regions stand one behind the other, at the same places."""
        height, width = noisy_latents.shape[-2:]
        texts, valid = encoder_hidden_states[..., :-1], encoder_hidden_states[..., -1] > 0.5
        with self.regions.reading(texts, masks, None if bool(valid.all()) else valid):
            model_pred = self.transformer(
                hidden_states=noisy_latents.flatten(2).mT.to(
                    self.dtype
                ),  # (batch, h * w, channels)
                encoder_hidden_states=texts.flatten(1, 2).to(self.dtype),
                timestep=timesteps.to(self.dtype) / 1000,
                img_shapes=[[(1, height, width)]] * len(noisy_latents),
                return_dict=False,
            )[0]
        return model_pred.float().mT.unflatten(2, (height, width))

    def guide(self, unconditional: Tensor, conditional: Tensor, guidance: float) -> Tensor:
        """Each patch keeps the length of its conditional prediction, as in the pipeline."""
        guided = super().guide(unconditional, conditional, guidance)
        return guided * conditional.norm(dim=1, keepdim=True) / guided.norm(dim=1, keepdim=True)


class _QwenConditioner(LanguageModelConditioner):
    """The last hidden state behind the chat's first message, padded with zeros to one length."""

    def _encode(self, prompt: str) -> Tensor:
        input_ids, attention_mask = self.tokenize(prompt)
        # Without the head, whose logits nobody reads.
        states = self.text_encoder.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        words = nn.functional.pad(states[0, self.prompts.dropped :], (0, 1), value=1.0)
        return nn.functional.pad(words, (0, 0, 0, self.length - len(words)))


class _Processor:
    """A diffusers attention processor for blocks with a stream of text and one of the image."""

    def __init__(self, context: RegionalContext) -> None:
        self._context = context

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``(batch, pixels, width)`` and ``(batch, regions * tokens, width)`` -> the same."""
        del encoder_hidden_states_mask, attention_mask
        query, key, value, text_query, text_key, text_value = join_streams(
            attn, hidden_states, encoder_hidden_states, attn.inner_dim // attn.heads
        )
        if image_rotary_emb is not None:
            image_angles, text_angles = image_rotary_emb
            # Every region's text stands where a text alone would.
            tokens = text_length(self._context)
            repeated = text_angles[:tokens].repeat(encoder_hidden_states.shape[1] // tokens, 1)
            query, key = (_rotate(x, image_angles) for x in (query, key))
            text_query, text_key = (_rotate(x, repeated) for x in (text_query, text_key))
        out = joint_attend(
            torch.cat([text_query, query], 1),
            torch.cat([text_key, key], 1),
            torch.cat([text_value, value], 1),
            self._context,
        )
        texts = encoder_hidden_states.shape[1]
        image = attn.to_out[1](attn.to_out[0](out[:, texts:]))
        return image, attn.to_add_out(out[:, :texts])


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    rotated = apply_rotary_emb_qwen(x, angles, use_real=False)
    assert isinstance(rotated, Tensor)
    return rotated
