"""diffusers' side: the inner loop of its DreamBooth-LoRA scripts, and its pipelines.

The loops are written anew after ``examples/dreambooth/train_dreambooth_lora.py`` (Stable
Diffusion), ``train_dreambooth_lora_sdxl.py`` and ``train_dreambooth_lora_flux2_klein.py`` of
the repository ``huggingface/diffusers``: peft's LoRA by ``add_adapter``, their noise, timesteps,
target, loss, clipping and AdamW, in bf16 under the autocast of ``--mixed_precision bf16``. The
text is encoded before the loop and the latents are cached, as the scripts can.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from peft import LoraConfig
from torch import Tensor, nn

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.records import Pixels
from tests.benchmarks.gpu.models import bytes_of, twin
from tests.benchmarks.gpu.ours import PROMPT, Draw
from tests.benchmarks.gpu.sizes import Size


class TheirSide(ABC):
    """A twin of the base's denoiser with peft's LoRA at given layers, and the pipeline over it.

    Made before an engine changes the base's denoiser.
    """

    script: str
    """The script that :meth:`draw` and :meth:`loss` follow."""

    def __init__(self, base: BaseModel, size: Size) -> None:
        diffusers_logging.set_verbosity_error()
        self._base, self._size = base, size
        self.denoiser = twin(base.denoiser)
        self._vae = twin(base.parts["vae"])
        # Two, since one with text encoders casts given texts to their type, which here is fp32.
        self._reader = self._make_pipeline(reads=True)
        self._painter = self._make_pipeline(reads=False)
        self._painter.set_progress_bar_config(disable=True)
        with torch.no_grad():
            self._text = self._encode(PROMPT)

    def add_adapter(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """LoRA at the layers of ``factors`` (down, up), of the same rank and contents."""
        rank = next(iter(factors.values()))[0].shape[0]
        config = LoraConfig(
            r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(factors)
        )
        self.denoiser.add_adapter(config)
        with torch.no_grad():
            for name, (down, up) in factors.items():
                layer = self.denoiser.get_submodule(name)
                layer.lora_A["default"].weight.copy_(down)
                layer.lora_B["default"].weight.copy_(up)
        self.parameters = [p for p in self.denoiser.parameters() if p.requires_grad]

    def copied_bytes(self) -> int:
        """Of the weights that the twins do not share with the base: convolutions."""
        pairs = ((self._base.denoiser, self.denoiser), (self._base.parts["vae"], self._vae))
        adapter = sum(p.nbytes for p in self.parameters)
        return sum(bytes_of(a, b) - bytes_of(a) for a, b in pairs) - adapter

    @property
    def clipped(self) -> list[nn.Parameter]:
        """What the script gives to ``clip_grad_norm_``."""
        return self.parameters

    def autocast(self) -> AbstractContextManager[Any]:
        """What accelerate puts round the forward pass."""
        base = self._base
        if base.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(base.device.type, dtype=base.dtype)

    def draw(self, latents: Tensor) -> Draw:
        """Noise and timesteps as the script draws them."""
        return Draw(latents, torch.randn_like(latents), self._draw_timesteps(len(latents)))

    def _draw_timesteps(self, batch: int) -> Tensor:
        steps = self._base.scheduler_config["num_train_timesteps"]
        return torch.randint(0, steps, (batch,), device=self._base.device).long()

    @abstractmethod
    def loss(self, draw: Draw) -> Tensor:
        """The script's loss, a scalar."""

    @abstractmethod
    def _make_pipeline(self, *, reads: bool) -> Any:
        """Over the twins; with the base's text encoders if it ``reads``."""

    @abstractmethod
    def _encode(self, prompt: str) -> Any:
        """What the pipeline makes of ``prompt``, in the type of the denoiser."""

    @abstractmethod
    def _call(self, texts: Any, negative: Any, latents: Tensor, steps: int) -> Any:
        """The pipeline's pictures, as arrays."""

    @torch.no_grad()
    def picture(self, latents: Tensor, steps: int | None = None) -> Pixels:
        """From text to pixels; ``latents`` are unit noise ``(1, channels, h, w)``."""
        texts, negative = self._encode(PROMPT), self._encode("")
        images = self._call(texts, negative, latents, steps or self._size.steps).images
        return (images[0] * 255).round().astype(np.uint8)

    def _options(self, latents: Tensor, steps: int) -> dict[str, Any]:
        return {
            "latents": latents.to(self._base.dtype),
            "num_inference_steps": steps,
            "guidance_scale": self._size.guidance,
            "height": self._size.side_px,
            "width": self._size.side_px,
            "output_type": "np",
        }
