"""The optimiser that ``learning.yaml: optimizer`` names."""

from __future__ import annotations

import importlib
from typing import Any, Literal

import torch

from catalog_pipeline.errors import ConfigurationError

OptimizerName = Literal["adamw", "adamw_8bit"]


def make_optimizer(name: OptimizerName, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW, arXiv:1711.05101, over ``groups``; the learning rates are set at each step.

    ``adamw_8bit`` keeps both moments in blocks of 8-bit numbers, arXiv:2110.02861; those of
    tensors below 4,096 entries stay fp32.

    Raises:
        ConfigurationError: ``adamw_8bit`` without bitsandbytes.
    """
    if name == "adamw":
        return torch.optim.AdamW(
            groups,
            fused=True,  # hundreds of small tensors: one call for all of them
        )
    try:
        optim: Any = importlib.import_module("bitsandbytes.optim")
    except ImportError as error:
        raise ConfigurationError(
            "learning.yaml: optimizer is adamw_8bit, which needs bitsandbytes, and it cannot be "
            f"imported ({error}); install it with pip install 'catalog-pipeline[quantise]', or "
            "set optimizer: adamw"
        ) from error
    optimizer = optim.AdamW8bit(groups)
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer
