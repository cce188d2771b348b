"""The settings of ``base_model.yaml`` that change how a denoiser is computed, on both sides."""

from __future__ import annotations

import importlib
from typing import Any

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.settings import BaseModelSettings
from tests.benchmarks.gpu.theirs import TheirSide

BASE = "base"
"""The shipped settings."""
_KNOWN = ("gradient_checkpointing", "compile")


def settings_at_hand() -> tuple[str, ...]:
    """:data:`BASE`, and each switch that ``base_model.yaml`` has here."""
    return (BASE, *(name for name in _KNOWN if name in BaseModelSettings.model_fields))


def switch_on(name: str, base: BaseModel, theirs: TheirSide) -> None:
    """As the base opens with ``name: true``; and the same by diffusers' own methods.

    The scripts have ``--gradient_checkpointing``; compiling regional blocks is what diffusers'
    documentation advises for its pipelines.

    Raises:
        ValueError: no such setting.
    """
    if name == BASE:
        return
    if name not in settings_at_hand():
        raise ValueError(f"no setting {name!r}; known are {', '.join(settings_at_hand())}")
    acceleration: Any = importlib.import_module("catalog_pipeline.diffusion.acceleration")
    if name == "gradient_checkpointing":
        acceleration.checkpoint_blocks(base.denoiser, base.regions)
        theirs.denoiser.enable_gradient_checkpointing()
    else:
        acceleration.compile_blocks(base.denoiser)
        theirs.denoiser.compile_repeated_blocks()
