"""Frozen weights that lie in CPU memory and are on the device only while they are used.

Since nothing changes them, fetching is a copy to the device and letting go is free. diffusers'
group offload was not taken: without a stream it copies every weight back as well, it takes the
trained deltas that lie inside a block along, and its prefetching follows the order of a first
pass, which a probe that ends early and a pass that is computed again in blocks do not keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class Residence:
    """The parameters and buffers of ``modules`` as they are now; what is added later stays put."""

    def __init__(self, modules: Iterable[nn.Module], device: torch.device) -> None:
        self.device = device
        tensors = [t for m in modules for t in (*m.parameters(False), *m.buffers(False))]
        self.homes = {id(tensor): (tensor, _at_home(tensor, device)) for tensor in tensors}
        """``id`` of a tensor -> it, and its values in CPU memory."""
        self._users = 0
        self._let_go()

    def fetch(self) -> None:
        """Bring the tensors to the device, unless they are there; :meth:`release` once for each."""
        self._users += 1
        if self._users == 1:
            for tensor, home in self.homes.values():
                tensor.data = self.copy_of(home)

    def release(self) -> None:
        """The last one to leave lets go of the copies on the device."""
        self._users -= 1
        if not self._users:
            self._let_go()

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """The tensors are on the device inside the block."""
        self.fetch()
        try:
            with saving_marks([self]):
                yield
        finally:
            self.release()

    def copy_of(self, home: Tensor) -> Tensor:
        """A copy on the device; queued, where the device works through a queue."""
        return home.to(self.device, non_blocking=True, copy=True)

    def _let_go(self) -> None:
        for tensor, home in self.homes.values():
            tensor.data = home


def reside_by_layer(network: nn.Module, device: torch.device) -> list[Residence]:
    """Give every layer of ``network`` a residence: on the device while it computes, else not.

    A pass with a gradient is to be made inside :func:`saving_marks` of all of them.
    """
    residences = []
    for layer in network.modules():
        if any(True for _ in (*layer.parameters(False), *layer.buffers(False))):
            residence = Residence([layer], device)
            layer.register_forward_pre_hook(partial(_call, residence.fetch))
            layer.register_forward_hook(partial(_call, residence.release), always_call=True)
            residences.append(residence)
    return residences


def _call(function: Callable[[], None], *_: object) -> None:
    function()


def saving_marks(residences: Iterable[Residence]) -> AbstractContextManager[Any]:
    """Inside the block autograd saves a mark for each weight, not its copy on the device.

    What the backward pass reads of a weight is fetched when it is read.
    """
    owners = {key: (r, home) for r in residences for key, (_, home) in r.homes.items()}

    def pack(tensor: Tensor) -> Tensor | _Mark:
        whole = tensor if tensor._base is None else tensor._base
        if id(whole) not in owners:
            return tensor
        layout = tuple(tensor.size()), tensor.stride(), tensor.storage_offset()
        return _Mark(*owners[id(whole)], *layout)

    def unpack(packed: Tensor | _Mark) -> Tensor:
        return packed.fetch() if isinstance(packed, _Mark) else packed

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


@dataclass(frozen=True)
class _Mark:
    """A weight, or a view of one."""

    residence: Residence
    home: Tensor
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def fetch(self) -> Tensor:
        return self.residence.copy_of(self.home).as_strided(self.size, self.stride, self.offset)


def _at_home(tensor: Tensor, device: torch.device) -> Tensor:
    """In CPU memory; pinned for a GPU, which then fetches without the CPU waiting for it."""
    home = tensor.detach().cpu()
    return home.pin_memory() if device.type == "cuda" else home


def waits_in_cpu_memory(part: str, offload: str, denoiser_part: str) -> bool:
    """Whether ``part`` of a base is of those that base_model.yaml: ``offload`` moves."""
    if part.startswith("text_encoder"):
        return offload != "none"
    return offload == "groups" and part in (denoiser_part, "vae")
