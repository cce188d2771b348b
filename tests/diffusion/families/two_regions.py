"""Tiny engines of every family with three slots, and a picture of two regions on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import Route
from catalog_pipeline.diffusion.sampling import Conditioning, DiffusionEngine, RegionalPrompt
from catalog_pipeline.settings import AdapterSettings
from tests.tiny_families import (
    write_tiny_klein,
    write_tiny_qwen_image,
    write_tiny_stable_diffusion_3,
)
from tests.tiny_model import fill_slot, open_tiny_engine, write_tiny_xl

SIDE = 8
"""Latents along a side."""
MUG, CLOCK, JUG = "a photo of a red mug", "a photo of a blue clock", "an empty jug on a table"

Write = Callable[[Path], Path]
FAMILIES: dict[str, Write] = {
    "xl": write_tiny_xl,
    "sd3": write_tiny_stable_diffusion_3,
    "klein": write_tiny_klein,
    "qwen": write_tiny_qwen_image,
}


@cache
def open_filled(folder: Path, **adapter: object) -> DiffusionEngine:
    """With slots ``a``, ``b`` and ``c`` that change the picture clearly; no test changes these."""
    engine = open_tiny_engine(folder, adapter=AdapterSettings(rank=2, **adapter))  # type: ignore[arg-type]
    for seed, slot in enumerate("abc"):
        fill_slot(engine, slot, seed)
    return engine


def halves() -> Tensor:
    """Region 0 left, region 1 right, ``(regions, h, w)`` finer than the latents."""
    left = torch.zeros(2 * SIDE, 2 * SIDE)
    left[:, :SIDE] = 1
    return torch.stack([left, 1 - left])


def encode(engine: DiffusionEngine, items: Sequence[RegionalPrompt]) -> Conditioning:
    masks = None if items[0].masks is None else torch.stack([i.masks for i in items])
    route = Route(tuple(item.slots for item in items), masks)
    return Conditioning(engine.encode_prompts(items), masks, route)


def run(engine: DiffusionEngine, noise: Tensor, encoded: Conditioning) -> Tensor:
    return engine.predict(
        noise,
        torch.tensor([600.0]).expand(len(noise)),
        encoded.encoder_hidden_states,
        encoded.masks,
        encoded.route,
    )
