"""What a concept may change about a frozen linear layer ``W`` (out, in).

Every parametrisation gives its change in factors, ``delta W = up @ down``, so that one
layer (:class:`~catalog_pipeline.diffusion.adapter.RoutedLinear`) can route, mask and mix all
of them:

=================  ==========================================================  ==============
name               ``delta W``                                                 a layer trains
=================  ==========================================================  ==============
``low_rank``       ``U D``: LoRA, arXiv:2106.09685                             rank (out + in)
``spectral_shift`` ``L (max(s + d, 0) - s) R``, ``W = L s R``: SVDiff,         min(out, in)
                   arXiv:2303.11305, Eq. (2); also what the paper's rerun trained
``dense``          the change itself; on cross-attention keys and values:      out * in
                   Custom Diffusion, arXiv:2212.04488
=================  ==========================================================  ==============
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from catalog_pipeline.settings import AdapterSettings


class Parametrisation(Protocol):
    """How a slot stores its change of one layer."""

    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """The tensors of a slot on a layer of ``weight`` (out, in), by name."""

    def initial(self, weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh tensors, fp32 on the CPU, that change nothing yet."""

    def factors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``down`` (r, in) and ``up`` (out, r), differentiable in ``tensors``."""


class LowRank:
    """``delta W = up @ down`` of a fixed rank; at the start ``up = 0``, ``down ~ N(0, s^2/in)``.

    The larger ``s = initial_scale``, the faster ``up`` moves the product: Adam's steps in
    ``up`` are of one size, whatever ``down`` is. docs/benchmarks/learning.md says what it is worth.
    """

    def __init__(self, rank: int, initial_scale: float = 1.0) -> None:
        self.rank = rank
        self.initial_scale = initial_scale

    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """``down`` (rank, in) and ``up`` (out, rank)."""
        out_width, in_width = weight.shape
        return {"down": (self.rank, in_width), "up": (out_width, self.rank)}

    def initial(self, weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Half of the product random, half zero: no change, and a gradient from the first step."""
        out_width, in_width = weight.shape
        noise = torch.randn(self.rank, in_width, generator=generator)
        down = noise * (self.initial_scale / math.sqrt(in_width))
        return {"down": down, "up": torch.zeros(out_width, self.rank)}

    def factors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The tensors themselves."""
        return tensors["down"], tensors["up"]


class SpectralShift:
    """SVDiff: the singular values move, the singular vectors stay those of the base."""

    def __init__(self) -> None:
        self._spectra: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """``shift`` (min(out, in),)."""
        return {"shift": (min(weight.shape),)}

    def initial(self, weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Zeros; ``generator`` is not used."""
        return {"shift": torch.zeros(min(weight.shape))}

    def factors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``R`` and ``L diag(max(s + shift, 0) - s)``; one decomposition a layer, kept."""
        key = weight.data_ptr()
        if key not in self._spectra:
            with torch.no_grad():
                self._spectra[key] = torch.linalg.svd(weight.float(), full_matrices=False)
        left, values, right = self._spectra[key]
        return right, left * (torch.relu(values + tensors["shift"]) - values)


class Dense:
    """Every entry of the weight moves."""

    def __init__(self) -> None:
        self._identities: dict[int, Tensor] = {}

    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """``delta`` (out, in)."""
        return {"delta": (int(weight.shape[0]), int(weight.shape[1]))}

    def initial(self, weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Zeros; ``generator`` is not used."""
        return {"delta": torch.zeros(weight.shape)}

    def factors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The identity and the change."""
        width = int(weight.shape[1])
        if width not in self._identities:
            self._identities[width] = torch.eye(width, device=weight.device)
        return self._identities[width], tensors["delta"]


def make_parametrisation(settings: AdapterSettings) -> Parametrisation:
    """The parametrisation that ``learning.yaml: adapter`` names."""
    if settings.parametrisation == "low_rank":
        return LowRank(settings.rank, settings.initial_scale)
    return SpectralShift() if settings.parametrisation == "spectral_shift" else Dense()
