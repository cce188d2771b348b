"""Stable Diffusion 3.5: a transformer of double blocks on two CLIP text encoders and T5.

Latents are those of the VAE, ``(batch, 16, h, w)`` of 8 pixels each; the transformer puts them
into patches of 2 x 2 itself. A text is 77 rows of the two CLIPs side by side, 256 rows of T5
and, last, one that holds the pooled texts of both CLIPs, all of T5's width. Of several regions
the mean of the pooled texts is read, since it acts on the whole picture.

A product has rows in the tables of the CLIPs, which are small and learn them as for Stable
Diffusion; T5 is frozen and reads a word that means nothing (:mod:`..language_model_text`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from catalog_pipeline.diffusion.families.clip_pair import ClipPair
from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.families.joint_transformer import JointTransformer
from catalog_pipeline.diffusion.language_model_text import LanguageModelConditioner
from catalog_pipeline.diffusion.prompts import plain_words, t5_prompts
from catalog_pipeline.diffusion.routed_linear import Rows
from catalog_pipeline.diffusion.text import PlaceholderConditioner, TextConditioner


class StableDiffusion3(ClipPair, JointTransformer):
    """The transformer, the VAE and T5 compute in ``dtype``, the CLIPs in fp32."""

    title = "Stable Diffusion 3.5"
    pipelines = ("StableDiffusion3Pipeline",)
    part_classes: ClassVar[Mapping[str, type]] = {
        "transformer": SD3Transformer2DModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModelWithProjection,
        "tokenizer": CLIPTokenizer,
        "text_encoder_2": CLIPTextModelWithProjection,
        "tokenizer_2": CLIPTokenizer,
        "text_encoder_3": T5EncoderModel,
        "tokenizer_3": T5Tokenizer,
        "scheduler": FlowMatchEulerDiscreteScheduler,
    }
    half_parts = ("transformer", "vae", "text_encoder_3")
    learns_rows = True
    spaced_to_zero = False
    image_attentions = ("attn", "attn2")
    feed_forwards: ClassVar[Mapping[str, Rows]] = {
        "ff.net.0.proj": "image",
        "ff.net.2": "image",
        "ff_context.net.0.proj": "texts",
        "ff_context.net.2": "texts",
    }

    @classmethod
    def find_misfit(cls, configs: Mapping[str, Mapping[str, Any]]) -> str | None:
        """A transformer that reads more than latents, or a pooled text wider than T5's rows."""
        transformer = configs["transformer"]
        channels = transformer.get("in_channels", 16)
        latent_channels = configs["vae"].get("latent_channels", 4)
        if channels != latent_channels:
            return (
                f"its transformer has in_channels {channels}, the latents have {latent_channels}: "
                "not one from text to image"
            )
        width = transformer.get("joint_attention_dim", 4096)
        pooled = transformer.get("pooled_projection_dim", 2048)
        if pooled > width:
            return (
                f"its transformer has pooled_projection_dim {pooled}, expected at most its "
                f"joint_attention_dim {width}"
            )
        return None

    @property
    def size_step_px(self) -> int:
        """Whole patches: 16."""
        return self.vae_scale_factor * int(self.transformer.config.patch_size)

    def image_positions(self, height_px: int, width_px: int) -> int:
        """One a patch."""
        return (height_px // self.size_step_px) * (width_px // self.size_step_px)

    def map_positions(self, latent_height: int, latent_width: int) -> int:
        """Every layer has one position a patch: all show an observer objects."""
        patch = int(self.transformer.config.patch_size)
        return (latent_height // patch) * (latent_width // patch)

    def encode(self, pixels: Tensor) -> Tensor:
        """The mean of the VAE's posterior, ``(mean - shift_factor) * scaling_factor``."""
        mean = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.mean.float()
        config = self.vae.config
        return (mean - (config.shift_factor or 0.0)) * config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """``(batch, channels, h, w)`` -> ``(batch, 3, height, width)``."""
        config = self.vae.config
        latents = latents.float() / config.scaling_factor + (config.shift_factor or 0.0)
        return self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0].float()

    def text_conditioner(self) -> TextConditioner:
        """Over all three text encoders."""
        return _ThreeEncoders(self)

    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        encoder_hidden_states: Tensor,
        masks: Tensor | None,
    ) -> Tensor:
        """One pass; the last row of each text is its pooled one."""
        texts = encoder_hidden_states[:, :, :-1]
        width = self.transformer.config.pooled_projection_dim
        pooled = encoder_hidden_states[:, :, -1, :width].mean(1)
        with self.regions.reading(texts, masks):
            model_pred = self.transformer(
                hidden_states=noisy_latents.to(self.dtype),
                encoder_hidden_states=texts.flatten(1, 2).to(self.dtype),
                pooled_projections=pooled.to(self.dtype),
                timestep=timesteps,
                return_dict=False,
            )[0]
        return model_pred.float()

    def product_words(self, sku: str, tokens: Sequence[str], *, beside_lora: bool) -> str:
        """The tokens themselves, by which the CLIPs know the rows either way."""
        del sku, beside_lora
        return " ".join(tokens)

    def prompt_code(self, prompt: str) -> str:
        """T5 is given the product's word as ``prompt_3``."""
        return f"{json.dumps(prompt)}, prompt_3={json.dumps(plain_words(prompt))}"

    def inversion_code(self, file: str, token: str) -> str:
        """The rows by hand, since the pipeline has no ``load_textual_inversion``.

        ``token`` is all of the product's, with spaces between them.
        """
        lines = [
            "from safetensors.torch import load_file",
            "from transformers import AddedToken",
            f'rows, tokens = load_file("{file}"), "{token}".split()',
            'for key, end in (("clip_l", ""), ("clip_g", "_2")):',
            '    tokenizer = getattr(pipe, f"tokenizer{end}")',
            '    encoder = getattr(pipe, f"text_encoder{end}")',
            "    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])",
            "    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)",
            "    table = encoder.get_input_embeddings().weight.data",
            "    table[tokenizer.convert_tokens_to_ids(tokens)] = rows[key].to(table)",
        ]
        return "\n    ".join(lines)


class _ThreeEncoders(PlaceholderConditioner):
    """The CLIPs as of Stable Diffusion XL, T5 behind them, a last row with both pooled texts."""

    def __init__(self, base: BaseModel) -> None:
        parts = base.parts
        clips = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
        super().__init__(
            parts["tokenizer"],
            *(parts[encoder] for _, encoder in clips),
            pad_ids=[parts[tokenizer].pad_token_id for tokenizer, _ in clips],
        )
        self._t5 = _T5Conditioner(t5_prompts(parts["tokenizer_3"]), parts["text_encoder_3"])

    @property
    def length(self) -> int:
        """77 and 256; a product's words are looked for among the first ones."""
        return self.prompts.length + self._t5.length

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """``(batch, tokens + 1, width)``."""
        outputs = self.encode_each(prompts)
        clip = torch.cat([output.hidden_states[-2] for output in outputs], -1)
        pooled = torch.cat([output.text_embeds for output in outputs], -1)
        t5 = self._t5.encode(prompts).to(clip.dtype)
        rows = [clip, t5, pooled[:, None]]
        return torch.cat([nn.functional.pad(x, (0, t5.shape[-1] - x.shape[-1])) for x in rows], 1)


class _T5Conditioner(LanguageModelConditioner):
    """The last hidden state; padding is read too, as in training."""

    def _encode(self, prompt: str) -> Tensor:
        input_ids, _ = self.tokenize(prompt, padding="max_length", max_length=self.length)
        states = self.text_encoder(input_ids=input_ids)[0][0]
        assert isinstance(states, Tensor)
        return states
