"""Qwen-Image: a transformer of double blocks on the last hidden state of Qwen2.5-VL.

Latents are those of the VAE in patches of 2 x 2, ``(batch, 64, h, w)`` of 16 pixels each, normed
by ``latents_mean`` and ``latents_std``. A text has a last column that is 1 at words and 0 at
padding, which nobody reads. A product is a word that means nothing and its slot
(:mod:`..language_model_text`). The pipeline's own attention refuses a mask from outside; the one
here takes its place, and regions are that of :mod:`..joint_attention`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
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
from catalog_pipeline.diffusion.families.packed_transformer import PackedTransformer
from catalog_pipeline.diffusion.joint_attention import DoubleStreamProcessor, text_length
from catalog_pipeline.diffusion.language_model_text import LanguageModelConditioner
from catalog_pipeline.diffusion.prompts import qwen_image_prompts
from catalog_pipeline.diffusion.regional import RegionalContext
from catalog_pipeline.diffusion.routed_linear import Rows
from catalog_pipeline.diffusion.text import TextConditioner


class QwenImage(PackedTransformer):
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
    vae_reads_frames = True
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
    def vae_scale_factor(self) -> int:
        """Two for every level at which the VAE halves a side, and two of a patch: 16."""
        return int(2 ** (1 + len(self.vae.temperal_downsample)))

    @property
    def latent_statistics(self) -> tuple[Tensor, Tensor]:
        """``latents_mean`` and ``latents_std``, each of the four pixels of a patch."""
        config = self.vae.config
        mean, deviation = (
            torch.tensor(values, device=self.device).repeat_interleave(4)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, deviation

    def text_conditioner(self) -> TextConditioner:
        """Over the last layer of Qwen2.5-VL."""
        prompts = qwen_image_prompts(self.parts["tokenizer"])
        return _QwenConditioner(prompts, self.parts["text_encoder"])

    def double_stream_processor(self) -> DoubleStreamProcessor:
        """Text and image are rotated each by its own angles."""
        return DoubleStreamProcessor(self.regions, partial(_rotate, self.regions))

    def split_padding(self, encoder_hidden_states: Tensor) -> tuple[Tensor, Tensor | None]:
        """By the last column."""
        valid = encoder_hidden_states[..., -1] > 0.5
        return encoder_hidden_states[..., :-1], None if bool(valid.all()) else valid

    def places(self, height: int, width: int, texts: Tensor) -> dict[str, Any]:
        """The shape of each picture; the transformer counts its positions itself."""
        return {"img_shapes": [[(1, height, width)]] * len(texts)}

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


def _rotate(context: RegionalContext, texts: Tensor, image: Tensor, angles: Any) -> Tensor:
    """Every region's text stands where a text alone would."""
    if angles is None:
        return torch.cat([texts, image], 1)
    image_angles, text_angles = angles
    tokens = text_length(context)
    repeated = text_angles[:tokens].repeat(texts.shape[1] // tokens, 1)
    return torch.cat([_rotate_stream(texts, repeated), _rotate_stream(image, image_angles)], 1)


def _rotate_stream(x: Tensor, angles: Tensor) -> Tensor:
    rotated = apply_rotary_emb_qwen(x, angles, use_real=False)
    assert isinstance(rotated, Tensor)
    return rotated
