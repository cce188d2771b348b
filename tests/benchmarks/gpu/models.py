"""Base models of random weights, made where they are used; and twins that share the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from torch import nn
from transformers import CLIPTokenizer, PreTrainedModel

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.families.family import BaseModel
from tests.benchmarks.gpu.sizes import Size
from tests.tiny_families import qwen_tokenizer


def build(
    size: Size, device: torch.device, dtype: torch.dtype, scratch: Path, seed: int
) -> BaseModel:
    """A base of random weights; no weight is written or copied. ``scratch`` takes a vocabulary."""
    torch.manual_seed(seed)
    family, parts = size.family, {}
    for name, kind in family.part_classes.items():
        if name.startswith("tokenizer"):
            parts[name] = _tokenizer(kind, scratch)
        elif issubclass(kind, nn.Module):
            half = name in family.half_parts
            part = _random_part(kind, size.parts[name], device, dtype if half else torch.float32)
            if half:
                nn.Module.to(part, memory_format=family.memory_format)  # type: ignore[call-overload]
            parts[name] = part
        else:
            parts[name] = kind(**size.parts[name])
    return family(parts, "random", device, dtype, size.side_px)


def _random_part(kind: Any, config: Any, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """As its class starts it; built in place, since a move from a CPU would hold it twice."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            if issubclass(kind, PreTrainedModel):
                part = kind(kind.config_class(**config))
            else:
                part = kind(**config)
    finally:
        torch.set_default_dtype(default)
    assert isinstance(part, nn.Module)
    return part.requires_grad_(False).eval()


def _tokenizer(kind: Any, scratch: Path) -> Any:
    if issubclass(kind, CLIPTokenizer):
        return kind.from_pretrained(EMBEDDED_WEIGHTS / "tokenizer")
    return qwen_tokenizer(scratch / "tokenizer")


def twin(module: Any) -> Any:
    """The same network over the same weights, as diffusers has it.

    Its convolutions lie in the standard order as from ``from_pretrained``, so where those of
    ``module`` are channels-last they are copied; all other tensors are shared.
    """
    assert isinstance(module, ModelMixin)
    with torch.device("meta"):
        copy = type(module).from_config(module.config)
    copy.load_state_dict({k: v.contiguous() for k, v in module.state_dict().items()}, assign=True)
    left = [n for n, t in (*copy.named_parameters(), *copy.named_buffers()) if t.is_meta]
    if left:
        raise ValueError(f"{type(module).__name__} makes {', '.join(left)} outside its state")
    return copy.requires_grad_(False).eval()


def bytes_of(*modules: nn.Module) -> int:
    """Of all their parameters, each tensor once."""
    tensors = {p.data_ptr(): p for module in modules for p in module.parameters()}
    return sum(p.nbytes for p in tensors.values())
