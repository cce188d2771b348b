"""The size of picture that a base was trained at, by its configurations alone; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LATENTS_A_SIDE = 128
"""Of transformers whose configuration has no ``sample_size``, as in diffusers' pipelines."""


def own_side_px(denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> int:
    """Latents a side times the pixels that the VAE makes of each.

    Raises:
        KeyError: the VAE's configuration does not say how often it halves a side.
        TypeError: a value that is no number.
    """
    halvings = vae.get("temperal_downsample")
    levels = len(vae["block_out_channels"]) - 1 if halvings is None else len(halvings)
    return int(denoiser.get("sample_size") or _LATENTS_A_SIDE) * 2**levels


def read_own_side(folder: Path) -> int | None:
    """:func:`own_side_px` of the model in ``folder``; ``None`` where it does not say."""
    try:
        name = "unet" if (folder / "unet").is_dir() else "transformer"
        denoiser, vae = (
            json.loads((folder / part / "config.json").read_bytes()) for part in (name, "vae")
        )
        return own_side_px(denoiser, vae)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # opening the base says what is wrong with it
