"""From trained networks to a diffusers folder."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from torch import nn

from catalog_pipeline.base_model.training.architectures import fix_posterior_std


def assemble_pipeline(
    vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, scheduler: Any, scaling_factor: float
) -> Any:
    """A ``StableDiffusionPipeline`` around the very modules given (not copies)."""
    fix_posterior_std(vae)
    vae.register_to_config(scaling_factor=scaling_factor)
    pipeline: Any = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export_pipeline(pipeline: Any, folder: Path) -> None:
    """Write ``pipeline`` as fp16 safetensors and JSON, replacing ``folder`` as a whole.

    The folder is complete or absent: it is written beside its place and renamed.
    ``StableDiffusionPipeline.from_pretrained(folder)`` opens it.
    """
    halves = {name: _half(getattr(pipeline, name)) for name in ("vae", "text_encoder", "unet")}
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    assemble_pipeline(
        **halves,
        tokenizer=pipeline.tokenizer,
        scheduler=pipeline.scheduler,
        scaling_factor=pipeline.vae.config.scaling_factor,
    ).save_pretrained(unfinished, safe_serialization=True)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _half(module: Any) -> Any:
    """A copy on the CPU in fp16 and the plain memory format; ``module`` stays as it is."""
    copied = copy.deepcopy(module)
    nn.Module.half(nn.Module.cpu(copied))
    for parameter in copied.parameters():
        parameter.data = parameter.data.contiguous()
    return copied
