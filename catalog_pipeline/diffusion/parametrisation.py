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
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from catalog_pipeline.settings import AdapterSettings


class Parametrisation(ABC):
    """How a slot stores its change of one layer."""

    names: ClassVar[frozenset[str]]
    """Of the tensors of a layer: by them a stored slot is recognised."""

    @classmethod
    def from_settings(cls, settings: AdapterSettings) -> Self:
        """As ``learning.yaml: adapter`` says."""
        del settings
        return cls()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """As the stored ``tensors`` of one layer have it."""
        del tensors
        return cls()

    @abstractmethod
    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """The tensors of a slot on a layer of ``weight`` (out, in), by name."""

    @abstractmethod
    def initial(self, weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh tensors, fp32 on the CPU, that change nothing yet."""

    @abstractmethod
    def factors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``down`` (r, in) and ``up`` (out, r), differentiable in ``tensors``."""


class LowRank(Parametrisation):
    """``delta W = up @ down`` of a fixed rank; at the start ``up = 0``, ``down ~ N(0, s^2/in)``.

    The larger ``s = initial_scale``, the faster ``up`` moves the product: Adam's steps in
    ``up`` are of one size, whatever ``down`` is. docs/benchmarks/learning.md says what it is worth.
    """

    names = frozenset({"down", "up"})

    def __init__(self, rank: int, initial_scale: float = 1.0) -> None:
        self.rank = rank
        self.initial_scale = initial_scale

    @classmethod
    def from_settings(cls, settings: AdapterSettings) -> Self:
        """Of ``rank`` and ``initial_scale``."""
        return cls(settings.rank, settings.initial_scale)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Of the rank of ``down``."""
        return cls(len(tensors["down"]))

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


class SpectralShift(Parametrisation):
    """SVDiff: the singular values move, the singular vectors stay those of the base."""

    names = frozenset({"shift"})

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


class Dense(Parametrisation):
    """Every entry of the weight moves."""

    names = frozenset({"delta"})

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


PARAMETRISATIONS: dict[str, type[Parametrisation]] = {
    "low_rank": LowRank,
    "spectral_shift": SpectralShift,
    "dense": Dense,
}
"""By their names in ``learning.yaml: adapter.parametrisation``."""


def make_parametrisation(settings: AdapterSettings) -> Parametrisation:
    """The parametrisation that ``learning.yaml: adapter`` names."""
    return PARAMETRISATIONS[settings.parametrisation].from_settings(settings)


def find_parametrisation(layer: str, tensors: Mapping[str, Tensor]) -> Parametrisation:
    """Whose ``tensors`` these are, by their names, so that no setting has to be as it was.

    Raises:
        ValueError: nobody's.
    """
    for kind in PARAMETRISATIONS.values():
        if kind.names == set(tensors):
            return kind.from_tensors(tensors)
    raise ValueError(
        f"{layer} holds the tensors {', '.join(sorted(tensors))}, which are of none of the "
        f"parametrisations {', '.join(PARAMETRISATIONS)}; update this program"
    )
