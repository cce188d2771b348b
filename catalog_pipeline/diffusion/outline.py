"""What the configurations of a base model say of it; no weight is read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin

from catalog_pipeline.diffusion.base import find_family


class _Outline:
    """A part that knows its ``config`` alone, and its entries by name."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = type("Config", (), dict(config))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)


def read_size_step(folder: Path) -> int:
    """:attr:`.BaseModel.size_step_px` of the model in ``folder``.

    Raises:
        BaseModelError: the folder is of no family (:func:`.find_family`).
    """
    family = find_family(folder)
    parts = {
        name: _outline(kind, folder / name)
        for name, kind in family.part_classes.items()
        if issubclass(kind, ModelMixin)
    }
    return family(parts, "", torch.device("meta"), torch.float32).size_step_px


def _outline(kind: Any, folder: Path) -> _Outline:
    """The configuration in ``folder``; what it leaves out is the default of the class."""
    arguments = inspect.signature(kind.__init__).parameters.values()
    defaults = {a.name: a.default for a in arguments if a.default is not a.empty}
    return _Outline({**defaults, **kind.load_config(folder, local_files_only=True)})
