"""A concept on disk: safetensors bytes of its slot and its token rows.

Tensors: ``slot/<layer>.down (rank, in)``, ``slot/<layer>.up (out, rank)`` and
``token/<index> (width,)``. A concept of a shared slot holds token rows only; the
slot itself is the part ``shared``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import load, save
from torch import Tensor

from catalog_pipeline.diffusion.sampling import DiffusionEngine

FORMAT = "1"


def encode_part(tensors: Mapping[str, Tensor]) -> bytes:
    """Deterministic bytes of ``tensors``."""
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    return save(ordered, metadata={"format": FORMAT})


def slot_part(
    engine: DiffusionEngine, slot: str, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The ``slot/...`` tensors of an installed slot."""
    tensors = engine.adapter.slot_tensors(slot)
    return {f"slot/{name}": value.to(dtype) for name, value in tensors.items()}


def token_part(engine: DiffusionEngine, tokens: Sequence[str]) -> dict[str, Tensor]:
    """The ``token/...`` tensors of registered placeholder tokens."""
    rows = [engine.text.table.parameter_of(token) for token in tokens]
    return {f"token/{index}": row.detach().float().cpu() for index, row in enumerate(rows)}


def install_part(
    engine: DiffusionEngine, data: bytes, *, slot: str | None, tokens: Sequence[str] = ()
) -> None:
    """Install a part's slot and token rows, frozen.

    Raises:
        ValueError: the part is of another adapter shape, or holds another number of tokens.
    """
    tensors = load(data)
    slot_tensors = {k.removeprefix("slot/"): v for k, v in tensors.items() if k[:5] == "slot/"}
    if slot_tensors and slot is not None:
        engine.adapter.load_slot(slot, slot_tensors)
    rows = [k for k in tensors if k.startswith("token/")]
    if len(rows) != len(tokens):
        raise ValueError(f"the part holds {len(rows)} token rows, expected {len(tokens)}")
    for index, token in enumerate(tokens):
        engine.text.load({token: tensors[f"token/{index}"]})
        engine.text.table.parameter_of(token).requires_grad_(False)
