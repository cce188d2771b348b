"""A concept on disk: safetensors bytes of its slot and its token rows.

Tensors: ``slot/<layer>.<tensor>`` as the parametrisation has them (of ``low_rank``:
``down (rank, in)`` and ``up (out, rank)``), or as :mod:`.compression` writes them, and
``token/<index> (width,)``. A concept of a shared slot holds token rows only; the slot itself
is the part ``shared``, which is not compressed: training goes on with it, and each task
would add an error. A base that learns no rows has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import load, save
from torch import Tensor

from catalog_pipeline.diffusion.compression import compress_slot, restore_slot
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.settings import AdapterSettings

FORMAT = "1"
CODED = "2"
"""The format of a part that holds codes; one of format 1 is read as ever."""
_SLOT = "slot/"
_TOKEN = "token/"


def encode_part(tensors: Mapping[str, Tensor]) -> bytes:
    """Deterministic bytes of ``tensors``."""
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    coded = any(name.endswith("_codes") for name in ordered)
    return save(ordered, metadata={"format": CODED if coded else FORMAT})


def slot_part(
    engine: DiffusionEngine, slot: str, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The ``slot/...`` tensors of an installed slot."""
    tensors = engine.adapter.slot_tensors(slot)
    return {f"{_SLOT}{name}": value.to(dtype) for name, value in tensors.items()}


def compressed_slot_part(
    engine: DiffusionEngine, slot: str, settings: AdapterSettings
) -> dict[str, Tensor]:
    """The ``slot/...`` tensors of an installed slot that is not trained again."""
    tensors = engine.adapter.slot_tensors(slot)
    stored = compress_slot(tensors, settings.stored_bits, settings.stored_rank_tolerance)
    return {f"{_SLOT}{name}": value for name, value in stored.items()}


def token_part(engine: DiffusionEngine, tokens: Sequence[str]) -> dict[str, Tensor]:
    """The ``token/...`` tensors of the learned rows of registered placeholder tokens."""
    rows = engine.text.parameters_of(tokens)
    return {f"{_TOKEN}{index}": row.detach().float().cpu() for index, row in enumerate(rows)}


def stored_slot(data: bytes) -> dict[str, Tensor]:
    """``{layer}.{tensor}`` of a part's slot, fp32; empty when the part holds token rows only."""
    found = load(data).items()
    return restore_slot({k.removeprefix(_SLOT): v for k, v in found if k.startswith(_SLOT)})


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
