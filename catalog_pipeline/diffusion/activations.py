"""How much memory the passes of a base keep, from its configuration and widths of blocks alone.

::

    step  = batch * itemsize * sum over blocks of (kept * tokens * width)     what autograd keeps
    batch = 2 * pictures * itemsize * max over blocks of the same             with guidance

``tokens`` are the pixels at a block and, in joint attention, the texts of its regions.
``kept`` is counted in tensors of tokens x width, measured on a CPU as the storages that autograd
saves (``tests/diffusion/test_memory_need.py`` measures them again); a residual block of a UNet
keeps 3 of its input and 3 of its output. A checkpointed block keeps its input, and one
block at a time all of it. Attention is taken to keep no matrix of tokens x tokens, as fused kernels
do; a bias by region is one. Of what a GPU's libraries take for themselves nothing is known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.prompts import open_prompt_tokenizer
from catalog_pipeline.diffusion.sampling import coded_together
from catalog_pipeline.settings import Settings

_KEPT: Mapping[str, tuple[float, float]] = {
    "Flux2TransformerBlock": (22.5, 25.5),
    "Flux2SingleTransformerBlock": (21.2, 25.7),
    "QwenImageTransformerBlock": (18.6, 23.6),
    "BasicTransformerBlock": (36.0, 48.0),
    "ResnetBlock2D": (3.0, 3.0),
}
"""Class of a block -> tensors kept in fp32, and in half precision, where norms are fp32."""
_KEPT_BY_CHECKPOINTS = {"BasicTransformerBlock": 4.0}
"""As above; the norm and projections around it are not checkpointed. Others keep 1."""
_KEPT_BY_CLIP = 14.5
"""Of a layer of a CLIP text encoder, through which learned rows get their gradient."""
_GRADIENTS = 0.5
"""Gradients of a block under way, as a share of what the block keeps."""
_DECODED = {"AutoencoderKL": 4.0, "AutoencoderKLFlux2": 4.0, "AutoencoderKLQwenImage": 8.0}
"""Tensors of the second channel count at full size while a VAE works on a picture."""
_TRAINED_REGIONS, _RENDERED_REGIONS = 2, 3


@dataclass(frozen=True)
class PassedBlock:
    """A block of a pass: its class, width, and place.

    ``halvings`` of the latents' side; ``joint``: texts stand in its sequence.
    """

    kind: str
    width: int
    halvings: int
    joint: bool
    has_gradient: bool


def passed_blocks(denoiser: Any, settings: Settings) -> Iterator[PassedBlock]:
    """The blocks of ``denoiser`` that were measured, in the order in which they are passed."""
    trained = settings.learning.adapter.blocks
    first = next(place for place in ("down", "mid", "up") if place in trained)
    for name, module in denoiser.named_modules():
        kind = type(module).__name__
        if kind not in _KEPT:
            continue
        if kind not in ("ResnetBlock2D", "BasicTransformerBlock"):
            config = denoiser.config
            yield PassedBlock(
                kind, config.num_attention_heads * config.attention_head_dim, 0, True, True
            )
            continue
        place = name.split("_")[0]
        last = len(denoiser.config.block_out_channels) - 1
        number = re.match(r"(?:down|up)_blocks\.(\d+)", name)
        halvings = last if number is None else int(number[1])
        halvings = last - halvings if place == "up" else halvings
        width = (
            module.conv1.in_channels + module.conv1.out_channels
            if kind == "ResnetBlock2D"
            else module.norm1.normalized_shape[0]
        )
        gradient = ("down", "mid", "up").index(place) >= ("down", "mid", "up").index(first)
        yield PassedBlock(kind, width, halvings, False, gradient)


class Activations:
    """Bytes that the passes of ``base`` keep, with the ``settings`` of learning and of a night."""

    def __init__(
        self, base: BaseModel, settings: Settings, folder: Path, blocks: list[PassedBlock]
    ) -> None:
        self._base, self._settings, self._folder = base, settings, folder
        self._blocks = blocks
        self._text_tokens = open_prompt_tokenizer(folder).length
        self.side_px = base.sample_size_px
        generation = settings.generation
        wide = generation.width * (1 + (_RENDERED_REGIONS - 2) * generation.widening)
        self.night_pixels = int(max(generation.height * wide, self.side_px**2))

    def step(self) -> int:
        """Of one training step: the photos and, with a shared slot, prior and replay."""
        learning = self._settings.learning
        rows = learning.batch_size
        if learning.adapter.slots == "shared":
            rows += learning.prior_batch_size + learning.replay_batch_size
        sizes = [
            (block, self._tokens(block, self.side_px**2, _TRAINED_REGIONS) * block.width)
            for block in self._blocks
            if block.has_gradient
        ]
        whole = [self._kept(block) * size for block, size in sizes]
        entries = sum(whole)
        if self._settings.base_model.gradient_checkpointing:
            ends = [_KEPT_BY_CHECKPOINTS.get(block.kind, 1.0) * size for block, size in sizes]
            entries = sum(ends) + max(whole)
        entries += _GRADIENTS * max(whole)
        bias = self._bias(self.side_px**2, _TRAINED_REGIONS)
        return int(rows * (entries * self._base.dtype.itemsize + bias) + self._texts(rows))

    def batch(self) -> int:
        """Of one batch of a night; both halves of a guided one at once."""
        generation = self._settings.generation
        rows = generation.batch_size * (2 if generation.guidance > 1 else 1)
        largest = max(self._rendered())
        bias = self._bias(self.night_pixels, _RENDERED_REGIONS)
        batch = rows * (largest * self._base.dtype.itemsize + bias)
        if generation.attention.method in ("auto", "gradient"):
            batch = max(batch, generation.batch_size * self._guided())
        return int(batch)

    def _guided(self) -> float:
        """Of a picture while attention guides it: half of the blocks keep all for a gradient."""
        return sum(self._rendered()) / 2 * self._base.dtype.itemsize

    def _rendered(self) -> list[float]:
        """Entries that each block would keep of a picture of a night."""
        return [
            self._kept(block)
            * self._tokens(block, self.night_pixels, _RENDERED_REGIONS)
            * block.width
            for block in self._blocks
        ]

    def vae(self, pictures: int, pixels: int) -> int:
        """Of coding so many pictures, as many at once as are."""
        pictures = min(pictures, coded_together(pixels))
        config = self._base.parts["vae"].config
        widths = config.get("block_out_channels") or [
            config.base_dim * factor for factor in config.dim_mult
        ]
        decoded = _DECODED.get(type(self._base.parts["vae"]).__name__, max(_DECODED.values()))
        return int(pictures * pixels * decoded * widths[:2][-1] * self._base.dtype.itemsize)

    def _tokens(self, block: PassedBlock, pixels: int, regions: int) -> float:
        places = pixels / (self._base.vae_scale_factor * 2**block.halvings) ** 2
        return places + (regions * self._text_tokens if block.joint else 0)

    def _kept(self, block: PassedBlock) -> float:
        return _KEPT[block.kind][self._base.dtype != torch.float32]

    def _bias(self, pixels: int, regions: int) -> float:
        """A picture's bias by region in joint attention: fp32, and in the dtype."""
        if not self._blocks[0].joint:
            return 0
        tokens = self._tokens(self._blocks[0], pixels, regions)
        return tokens**2 * (4 + self._base.dtype.itemsize)

    def _texts(self, rows: int) -> float:
        """What CLIP text encoders in fp32 keep for the gradient of learned rows."""
        total = 0.0
        for part, kind in self._base.part_classes.items():
            if part.startswith("text_encoder") and part not in self._base.half_parts:
                config = json.loads((self._folder / part / "config.json").read_text("utf-8"))
                size = config["hidden_size"] * config["num_hidden_layers"] * self._text_tokens
                total += 4 * rows * _KEPT_BY_CLIP * size * issubclass(kind, nn.Module)
        return total
