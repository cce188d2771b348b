"""A concept on disk: safetensors bytes of its slot and its token rows.

Tensors: ``slot/<layer>.<tensor>`` as the parametrisation has them (of ``low_rank``:
``down (rank, in)`` and ``up (out, rank)``) and ``token/<index> (width,)``. A concept of a
shared slot holds token rows only; the slot itself is the part ``shared``. A base that learns
no rows has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import load, save
from torch import Tensor

from catalog_pipeline.diffusion.sampling import DiffusionEngine

FORMAT = "1"
_SLOT = "slot/"
_TOKEN = "token/"


def encode_part(tensors: Mapping[str, Tensor]) -> bytes:
    """Deterministic bytes of ``tensors``."""
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    return save(ordered, metadata={"format": FORMAT})


def slot_part(
    engine: DiffusionEngine, slot: str, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The ``slot/...`` tensors of an installed slot."""
    tensors = engine.adapter.slot_tensors(slot)
    return {f"{_SLOT}{name}": value.to(dtype) for name, value in tensors.items()}


def token_part(engine: DiffusionEngine, tokens: Sequence[str]) -> dict[str, Tensor]:
    """The ``token/...`` tensors of the learned rows of registered placeholder tokens."""
    rows = engine.text.parameters_of(tokens)
    return {f"{_TOKEN}{index}": row.detach().float().cpu() for index, row in enumerate(rows)}


def stored_slot(data: bytes) -> dict[str, Tensor]:
    """``{layer}.{tensor}`` of a part's slot, fp32; empty when the part holds token rows only."""
    found = load(data).items()
    return {k.removeprefix(_SLOT): v.float() for k, v in found if k.startswith(_SLOT)}


def count_rows(data: bytes) -> int:
    """How many token rows a part holds."""
    return sum(name.startswith(_TOKEN) for name in load(data))


def stored_tokens(data: bytes, count: int) -> list[Tensor]:
    """The ``count`` token rows ``(width,)`` of a part in prompt order, fp32.

    Raises:
        ValueError: the part holds another number of them.
    """
    tensors = load(data)
    held = sum(name.startswith(_TOKEN) for name in tensors)
    if held != count:
        raise ValueError(f"the part holds {held} token rows, expected {count}")
    return [tensors[f"{_TOKEN}{index}"].float() for index in range(count)]


def install_part(
    engine: DiffusionEngine, data: bytes, *, slot: str | None, tokens: Sequence[str] = ()
) -> None:
    """Install a part's slot and token rows, frozen.

    Raises:
        ValueError: the part is of another adapter shape, or holds another number of tokens.
    """
    tensors = stored_slot(data)
    if tensors and slot is not None:
        engine.adapter.load_slot(slot, tensors)
    rows = stored_tokens(data, engine.text.rows_of(len(tokens)))
    engine.text.load(dict(zip(tokens, rows, strict=False)))
    for row in engine.text.parameters_of(tokens):
        row.requires_grad_(False)
