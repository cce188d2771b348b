"""FLUX.2-klein: a transformer of double and single blocks on the hidden states of Qwen3.

Latents are those of the VAE in patches of 2 x 2, ``(batch, 128, h, w)`` of 16 pixels each, normed
by the running mean and variance of its batch norm: what the pipeline packs into a sequence.
A product is a word that means nothing and its slot (:mod:`..language_model_text`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn
from transformers import Qwen2Tokenizer, Qwen3ForCausalLM

from catalog_pipeline.diffusion.families.interchange import KohyaPlace
from catalog_pipeline.diffusion.families.packed_transformer import PackedTransformer
from catalog_pipeline.diffusion.joint_attention import (
    DoubleStreamProcessor,
    joint_attend,
    split_heads,
)
from catalog_pipeline.diffusion.language_model_text import LanguageModelConditioner
from catalog_pipeline.diffusion.prompts import qwen3_prompts
from catalog_pipeline.diffusion.regional import RegionalContext
from catalog_pipeline.diffusion.routed_linear import Rows
from catalog_pipeline.diffusion.text import TextConditioner
from catalog_pipeline.settings import AdapterSettings

_SINGLE = {"attn.to_qkv_mlp_proj": ("to_q", "to_k", "to_v"), "attn.to_out": ("to_out.0",)}
"""Layers of a single block, and the targets any of which asks for them."""
_KOHYA = {
    "attn.to_q": ("img_attn_qkv", 0, 3),
    "attn.to_k": ("img_attn_qkv", 1, 3),
    "attn.to_v": ("img_attn_qkv", 2, 3),
    "attn.to_out.0": ("img_attn_proj", 0, 1),
    "attn.add_q_proj": ("txt_attn_qkv", 0, 3),
    "attn.add_k_proj": ("txt_attn_qkv", 1, 3),
    "attn.add_v_proj": ("txt_attn_qkv", 2, 3),
    "attn.to_add_out": ("txt_attn_proj", 0, 1),
    "ff.linear_in": ("img_mlp_0", 0, 1),
    "ff.linear_out": ("img_mlp_2", 0, 1),
    "ff_context.linear_in": ("txt_mlp_0", 0, 1),
    "ff_context.linear_out": ("txt_mlp_2", 0, 1),
    "attn.to_qkv_mlp_proj": ("linear1", 0, 1),
    "attn.to_out": ("linear2", 0, 1),
}
"""A layer of a block -> its :class:`KohyaPlace` in one of the original model's blocks."""
_KOHYA_VERSIONS = {7680: "flux_2_klein_4b", 12288: "flux_2_klein_9b"}
"""By the width of the text, three times that of Qwen3-4B or Qwen3-8B."""


class Flux2Klein(PackedTransformer):
    """The undistilled klein, ``FLUX.2-klein-base``."""

    title = "FLUX.2-klein"
    pipelines = ("Flux2KleinPipeline",)
    part_classes: ClassVar[Mapping[str, type]] = {
        "transformer": Flux2Transformer2DModel,
        "vae": AutoencoderKLFlux2,
        "text_encoder": Qwen3ForCausalLM,
        "tokenizer": Qwen2Tokenizer,
        "scheduler": FlowMatchEulerDiscreteScheduler,
    }
    half_parts = ("transformer", "vae", "text_encoder")
    feed_forwards: ClassVar[Mapping[str, Rows]] = {
        "ff.linear_in": "image",
        "ff.linear_out": "image",
        "ff_context.linear_in": "texts",
        "ff_context.linear_out": "texts",
    }

    @classmethod
    def find_misfit(cls, configs: Mapping[str, Mapping[str, Any]]) -> str | None:
        """A distilled model, which takes no guidance, or another FLUX.2."""
        if configs["model_index"].get("is_distilled"):
            return (
                "model_index.json says is_distilled, which learns badly and takes no guidance; "
                "expected the base checkpoint, FLUX.2-klein-base"
            )
        if configs["transformer"].get("guidance_embeds", True):
            return "its transformer reads the guidance (guidance_embeds), as FLUX.2-dev's does"
        return None

    @property
    def vae_scale_factor(self) -> int:
        """Two for every level of the VAE but the first, and two of a patch: 16."""
        return int(2 ** len(self.vae.config.block_out_channels))

    @property
    def latent_statistics(self) -> tuple[Tensor, Tensor]:
        """``running_mean`` and ``sqrt(running_var + eps)`` of the VAE's batch norm."""
        norm, eps = self.vae.bn, self.vae.config.batch_norm_eps
        return norm.running_mean.float(), (norm.running_var.float() + eps).sqrt()

    def text_conditioner(self) -> TextConditioner:
        """Over three layers of Qwen3."""
        return _Qwen3Conditioner(qwen3_prompts(self.parts["tokenizer"]), self.parts["text_encoder"])

    def delta_layers(self, settings: AdapterSettings) -> dict[str, Rows]:
        """Also the fused layers of the single blocks, which read text and image together."""
        layers = super().delta_layers(settings)
        for number in range(len(self.transformer.single_transformer_blocks)):
            for path, targets in _SINGLE.items():
                if set(targets) & set(settings.targets):
                    layers[f"single_transformer_blocks.{number}.{path}"] = "joint"
        return layers

    def double_stream_processor(self) -> DoubleStreamProcessor:
        """Text and image are rotated as one sequence."""
        return DoubleStreamProcessor(
            self.regions, lambda texts, image, angles: _rotate(torch.cat([texts, image], 1), angles)
        )

    def install_attention(self, settings: AdapterSettings) -> None:
        """Both kinds of blocks by region."""
        super().install_attention(settings)
        for block in self.transformer.single_transformer_blocks:
            block.attn.set_processor(_SingleProcessor(self.regions))

    def places(self, height: int, width: int, texts: Tensor) -> dict[str, Any]:
        """Four numbers a position: frame, row, column and word."""
        regions, tokens = texts.shape[1:3]
        return {
            "img_ids": _places(1, height, width, 1).to(self.device),
            "txt_ids": _places(1, 1, 1, tokens).repeat(regions, 1).to(self.device),
        }

    @property
    def probe_end(self) -> nn.Module:
        """The single blocks: in the double ones text and image are told apart."""
        first = self.transformer.single_transformer_blocks[0]
        assert isinstance(first, nn.Module)
        return first

    peft_prefix = "diffusion_model."

    def kohya_place(self, layer: str) -> KohyaPlace:
        """In the original model, where queries, keys and values are one layer."""
        blocks, number, path = layer.split(".", 2)
        kind = "single" if blocks.startswith("single") else "double"
        module, part, parts = _KOHYA[path]
        return KohyaPlace(f"{kind}_blocks_{number}_{module}", part, parts)

    @property
    def kohya_base_version(self) -> str | None:
        """As musubi-tuner has it."""
        return _KOHYA_VERSIONS.get(int(self.transformer.config.joint_attention_dim))

    def schedule_shift(self, steps: int, height_px: int, width_px: int) -> float:
        """Fitted by the makers for 10 and 200 steps; ``compute_empirical_mu`` of the pipeline."""
        positions = self.image_positions(height_px, width_px)
        many = 0.00016927 * positions + 0.45666666
        if positions > 4300:
            return float(many)
        few = 8.73809524e-05 * positions + 1.89833333
        slope = (many - few) / 190
        return float(many + slope * (steps - 200))


def _places(*sizes: int) -> Tensor:
    """``(positions, 4)``: frame, row, column and word of each."""
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes))


class _Qwen3Conditioner(LanguageModelConditioner):
    """Hidden states a quarter, a half and three quarters up the layers, side by side.

    Of the 36 layers of Qwen3-4B these are 9, 18 and 27. Padding is read too, as in training.
    """

    def _encode(self, prompt: str) -> Tensor:
        input_ids, attention_mask = self.tokenize(
            prompt, padding="max_length", max_length=self.length
        )
        # Without the head, whose logits nobody reads.
        states = self.text_encoder.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        layers = self.text_encoder.config.num_hidden_layers
        return torch.cat([states[layers * part // 4][0] for part in (1, 2, 3)], -1)


class _SingleProcessor:
    """A diffusers attention processor for blocks with one stream and fused layers."""

    def __init__(self, context: RegionalContext) -> None:
        self._context = context

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """``(batch, regions * tokens + pixels, width)`` -> the same."""
        del attention_mask
        width = attn.inner_dim
        query, key, value, feed_forward = attn.to_qkv_mlp_proj(hidden_states).split(
            [width, width, width, attn.mlp_hidden_dim * attn.mlp_mult_factor], -1
        )
        query, key, value = (split_heads(x, attn.head_dim) for x in (query, key, value))
        out = joint_attend(
            _rotate(attn.norm_q(query), image_rotary_emb),
            _rotate(attn.norm_k(key), image_rotary_emb),
            value,
            self._context,
        )
        return attn.to_out(torch.cat([out, attn.mlp_act_fn(feed_forward)], -1))


def _rotate(x: Tensor, angles: Any) -> Tensor:
    rotated = x if angles is None else apply_rotary_emb(x, angles, sequence_dim=1)
    assert isinstance(rotated, Tensor)
    return rotated
