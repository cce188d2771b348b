"""Stable Diffusion XL: two CLIP text encoders, a pooled text, and the size of the picture.

The UNet is that of Stable Diffusion with wider texts, so regions, attention control and the
training of placeholder rows carry over. Besides the texts it reads, added to the time
(section 2.2 of arXiv:2307.01952), the pooled text of the second encoder and six numbers:
original size, crop and target size. These are the picture's own size and no crop, as the
pipeline has them. Of several regions the mean of the pooled texts is read, since it acts on the
whole picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from catalog_pipeline.diffusion.families.clip_pair import ClipPair
from catalog_pipeline.diffusion.families.interchange import KohyaPlace
from catalog_pipeline.diffusion.families.stable_diffusion import StableDiffusion
from catalog_pipeline.diffusion.text import PlaceholderConditioner, TextConditioner


class StableDiffusionXL(ClipPair, StableDiffusion):
    """UNet and VAE compute in ``dtype``, the text encoders in fp32."""

    title = "Stable Diffusion XL"
    pipelines = ("StableDiffusionXLPipeline",)
    pipeline_options: ClassVar[Mapping[str, Any]] = {"add_watermarker": False}
    part_classes: ClassVar[Mapping[str, type]] = {
        **StableDiffusion.part_classes,
        "text_encoder_2": CLIPTextModelWithProjection,
        "tokenizer_2": CLIPTokenizer,
    }
    added_embedding: ClassVar[str | None] = "text_time"

    @classmethod
    def find_misfit(cls, configs: Mapping[str, Mapping[str, Any]]) -> str | None:
        """As of Stable Diffusion; also a VAE whose latents have a mean of their own."""
        if configs["vae"].get("latents_mean") is not None:
            return "its VAE shifts latents by latents_mean, as Playground's does"
        return super().find_misfit(configs)

    def text_conditioner(self) -> TextConditioner:
        """Over both text encoders."""
        return _TwoEncoders(
            self.tokenizer,
            self.text_encoder,
            self.parts["text_encoder_2"],
            pad_ids=(self.tokenizer.pad_token_id, self.parts["tokenizer_2"].pad_token_id),
        )

    def added_conditions(self, texts: Tensor, height_px: int, width_px: int) -> dict[str, Tensor]:
        """``text_embeds`` (batch, width) of the rows behind ``texts``, ``time_ids`` (batch, 6)."""
        width = self.parts["text_encoder_2"].config.projection_dim
        pooled = texts[:, :, -1, :width].mean(1)
        size = [height_px, width_px]
        time_ids = torch.tensor([[*size, 0, 0, *size]] * len(texts), device=texts.device)
        return {"text_embeds": pooled.to(self.dtype), "time_ids": time_ids.to(self.dtype)}

    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        encoder_hidden_states: Tensor,
        masks: Tensor | None,
    ) -> Tensor:
        """One pass of the UNet; the last row of each text is its pooled one."""
        height, width = (side * self.vae_scale_factor for side in noisy_latents.shape[-2:])
        texts = encoder_hidden_states[:, :, :-1]
        with self.regions.reading(texts, masks):
            model_pred = self.unet(
                noisy_latents.to(self.dtype).contiguous(memory_format=self.memory_format),
                timesteps,
                texts[:, 0].to(self.dtype),
                added_cond_kwargs=self.added_conditions(encoder_hidden_states, height, width),
                return_dict=False,
            )[0]
        return model_pred.float()

    kohya_base_version = "sdxl_base_v1-0"

    def kohya_place(self, layer: str) -> KohyaPlace:
        """Blocks as the original UNet counts them, on which kohya's trainers work.

        There every residual network is a block with the attention behind it, and the first
        block of all is the convolution that reads the latents.
        """
        kind, *rest = layer.split(".")
        each = int(self.unet.config.layers_per_block) + 1
        if kind == "mid_block":
            path = ["middle_block", "1", *rest[2:]]
        else:
            block, _, attention, *rest = rest
            first, kind = (1, "input_blocks") if kind == "down_blocks" else (0, "output_blocks")
            path = [kind, str(first + int(block) * each + int(attention)), "1", *rest]
        return KohyaPlace("_".join(path).replace(".", "_"))

    @property
    def lora_options(self) -> Mapping[str, Any]:
        """The counts of blocks."""
        return {"unet_config": self.unet.config}

    def inversion_code(self, file: str, token: str) -> str:
        """One call a text encoder."""
        lines = ["from safetensors.torch import load_file", f'rows = load_file("{file}")']
        for key, end in (("clip_l", ""), ("clip_g", "_2")):
            parts = f"tokenizer=pipe.tokenizer{end}, text_encoder=pipe.text_encoder{end}"
            lines.append(f'pipe.load_textual_inversion(rows["{key}"], token="{token}", {parts})')
        return "\n    ".join(lines)


class _TwoEncoders(PlaceholderConditioner):
    """The last layer but one of both encoders side by side; a last row holds the pooled text."""

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """``(batch, tokens + 1, width)``."""
        outputs = self.encode_each(prompts)
        texts = torch.cat([output.hidden_states[-2] for output in outputs], -1)
        pooled = outputs[1].text_embeds
        row = nn.functional.pad(pooled, (0, texts.shape[-1] - pooled.shape[-1]))
        return torch.cat([texts, row[:, None]], 1)
