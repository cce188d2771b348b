"""The state of an interrupted task, as safetensors bytes: parameters and optimiser.

A task that is killed and started again continues from its last checkpoint and
ends with the same bytes as an undisturbed run on the same machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from catalog_pipeline.safetensors_header import read_metadata

LossCurve = list[tuple[int, float]]


class Checkpoint(Protocol):
    """Where a task keeps its state; the caller decides on file or bucket."""

    def read(self) -> bytes | None:
        """The last state written, or ``None``."""

    def write(self, data: bytes) -> None:
        """Replace the state atomically."""


def encode_state(
    fingerprint: str,
    step: int,
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    curve: LossCurve,
    extra: Mapping[str, Tensor],
) -> bytes:
    """Everything that the rest of the task depends on, after ``step`` finished steps.

    ``extra`` tensors are the state of anything else that changes from step to step.
    """
    tensors: dict[str, Tensor] = {f"extra/{name}": value.clone() for name, value in extra.items()}
    for index, parameter in enumerate(parameters):
        tensors[f"parameter/{index}"] = parameter.detach().cpu().contiguous()
        # Copies: 8-bit optimisers share one table among parameters, and a file holds no shares.
        for name, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{index}/{name}"] = torch.as_tensor(value).cpu().clone().contiguous()
    header = {"fingerprint": fingerprint, "step": str(step), "curve": json.dumps(curve)}
    return save({name: tensors[name] for name in sorted(tensors)}, metadata=header)


def finished_steps(data: bytes, fingerprint: str) -> int:
    """How many steps a state of :func:`encode_state` has behind it; 0 for one of another task."""
    try:
        header = read_metadata(data)
    except ValueError:
        return 0
    return int(header["step"]) if header.get("fingerprint") == fingerprint else 0


def restore_state(
    data: bytes,
    fingerprint: str,
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Tensor],
) -> tuple[int, LossCurve] | None:
    """Put a state of :func:`encode_state` back; returns ``(finished steps, curve)``.

    ``extra`` tensors are written in place.

    ``None``, with nothing changed, when the bytes belong to another task (other
    photos, settings, base or parent) or are not a state at all.
    """
    try:
        header = read_metadata(data)
        tensors = load(data)
    except (SafetensorError, ValueError):
        return None
    if header.get("fingerprint") != fingerprint:
        return None
    names_now = {f"extra/{name}" for name in extra}
    if names_now != {name for name in tensors if name.startswith("extra/")}:
        return None
    state: dict[int, dict[str, Any]] = {}
    with torch.no_grad():
        for name, value in extra.items():
            value.copy_(tensors[f"extra/{name}"])
        for index, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"parameter/{index}"].to(parameter.device))
            prefix = f"optimizer/{index}/"
            names = [name for name in tensors if name.startswith(prefix)]
            state[index] = {name.removeprefix(prefix): _stored(tensors[name]) for name in names}
    optimizer.load_state_dict({"state": state, "param_groups": _groups(optimizer)})
    curve = [(int(step), float(loss)) for step, loss in json.loads(header["curve"])]
    return int(header["step"]), curve


def _stored(value: Tensor) -> Tensor | int:
    """A whole number was a plain one: counts of steps, where they are no tensor."""
    return int(value) if value.dtype == torch.int64 and not value.dim() else value


def _groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = optimizer.state_dict()["param_groups"]
    return groups
