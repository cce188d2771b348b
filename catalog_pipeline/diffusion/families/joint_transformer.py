"""What families have in common whose denoiser is a transformer over text and image together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.families.flow_matching import FlowMatching
from catalog_pipeline.diffusion.joint_attention import (
    DoubleStreamProcessor,
    joint_masks,
    text_masks,
)
from catalog_pipeline.diffusion.regional import resize_masks
from catalog_pipeline.diffusion.routed_linear import Rows
from catalog_pipeline.settings import AdapterSettings

_TEXT_TWINS = {
    "to_q": "add_q_proj",
    "to_k": "add_k_proj",
    "to_v": "add_v_proj",
    "to_out.0": "to_add_out",
}
"""A projection of the image -> that of the text at the same layer."""


class JointTransformer(FlowMatching):
    """The transformer, the VAE and frozen language models compute in ``dtype``.

    Of ``learning.yaml: adapter`` the attentions mean: ``self`` the projections of the image,
    ``cross`` those of the text beside it. ``blocks`` is of UNets: every block is trained.
    """

    denoiser_part = "transformer"
    memory_format = torch.contiguous_format
    feed_forwards: ClassVar[Mapping[str, Rows]]
    """Paths in a block of two streams: the linear layers behind attention, and what they read."""
    image_attentions: ClassVar[tuple[str, ...]] = ("attn",)
    """Those of such a block that have projections of the image."""

    @property
    def transformer(self) -> Any:
        """The denoiser."""
        return self.parts["transformer"]

    @property
    def vae(self) -> Any:
        """The autoencoder."""
        return self.parts["vae"]

    def delta_layers(self, settings: AdapterSettings) -> dict[str, Rows]:
        """Attention's projections of image and text and, if asked for, what lies behind them."""
        wanted: dict[str, Rows] = {}
        for target in settings.targets:
            if "self" in settings.attentions:
                wanted |= {f"{path}.{target}": "image" for path in self.image_attentions}
            if "cross" in settings.attentions and target in _TEXT_TWINS:
                wanted[f"attn.{_TEXT_TWINS[target]}"] = "texts"
        if settings.feed_forward:
            wanted |= self.feed_forwards
        layers: dict[str, Rows] = {}
        for number, block in enumerate(self.transformer.transformer_blocks):
            for path, rows in wanted.items():
                if isinstance(_find(block, path), nn.Linear):
                    layers[f"transformer_blocks.{number}.{path}"] = rows
        return layers

    def double_stream_processor(self) -> DoubleStreamProcessor:
        """Of a block of two streams."""
        return DoubleStreamProcessor(self.regions)

    def install_attention(self, settings: AdapterSettings) -> None:
        """Blocks of two streams by region; an attention of the image alone stays as it is."""
        del settings
        for block in self.transformer.transformer_blocks:
            block.attn.set_processor(self.double_stream_processor())

    def position_masks(self, masks: Tensor, positions: int, rows: Rows) -> Tensor:
        """Texts belong to their own region, pixels to those that the masks say."""
        if rows == "image":
            return resize_masks(masks, positions)
        if rows == "texts":
            return text_masks(self.regions, masks)
        texts = text_masks(self.regions, masks).shape[-1]
        return joint_masks(self.regions, masks, positions - texts)

    def map_positions(self, latent_height: int, latent_width: int) -> int:
        """Every layer has the same positions, one a latent pixel: all show an observer objects."""
        return latent_height * latent_width

    @property
    def probe_end(self) -> nn.Module:
        """The block in the middle."""
        blocks = self.transformer.transformer_blocks
        middle = blocks[len(blocks) // 2]
        assert isinstance(middle, nn.Module)
        return middle


def _find(block: nn.Module, path: str) -> nn.Module | None:
    try:
        return block.get_submodule(path)
    except AttributeError:
        return None
