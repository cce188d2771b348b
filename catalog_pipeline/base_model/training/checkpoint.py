"""Where a stage stands, in one safetensors file: tensors plus JSON facts in its header.

A checkpoint is written beside its final name and renamed, so a reader finds
either the earlier one or the new one, whole, whatever kills the writer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from catalog_pipeline.errors import IntegrityError

_FACTS = "facts"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Replace ``path`` atomically with ``tensors`` (any device) and JSON-ready ``facts``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(plain, unfinished, metadata={_FACTS: json.dumps(facts)})
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and facts of ``path``.

    Raises:
        IntegrityError: the file is cut short, or was not written by :func:`save_tensors`.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            facts = json.loads((stored.metadata() or {})[_FACTS])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise IntegrityError(
            f"{path} is not a checkpoint of this program ({error}); expected safetensors with "
            f"a '{_FACTS}' header; delete it and run again with --resume to redo its stage"
        ) from error
    return tensors, facts


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, flat: ``<parameter index>.<quantity>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{quantity}": torch.as_tensor(value)
        for index, quantities in state.items()
        for quantity, value in quantities.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` took; learning rates stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, quantity = name.partition(".")
        state.setdefault(int(index), {})[quantity] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` under ``<prefix>/<name>``."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`with_prefix` on a mixed mapping."""
    start = f"{prefix}/"
    return {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}
