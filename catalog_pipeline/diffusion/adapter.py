"""The concept adapter: low-rank deltas on the base's attention, routed per image region.

A *slot* is one set of low-rank deltas. With ``slots: per_concept`` every SKU owns
one; with ``slots: shared`` the collection owns a single one (as in L2DM). A
:class:`Route` says which slot acts where: on which image of the batch, and at
which pixels. A prompt that names no learned product gets no slot, so base-only
pictures are those of the untouched base.

For a linear layer ``W`` of an attention block, a pixel ``p`` of image ``b`` and
regions ``r`` with masks ``m_r`` in [0, 1]::

    y_p = W x_p + sum_r m_r(p) * (alpha / rank) * U_s(r) D_s(r) x_p      # LoRA, arXiv:2106.09685

Masks on weights make two products in one picture use their own deltas side by
side instead of a merged average of both (compare Mix-of-Show, arXiv:2305.18292,
which masks attention outputs only).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.base import BaseModel
from catalog_pipeline.settings import AdapterSettings


@dataclass(frozen=True)
class Route:
    """Which slot acts where.

    Attributes:
        slots: ``slots[b][r]`` names the slot of region ``r`` of image ``b``;
            ``None`` leaves the base alone there.
        masks: ``(batch, regions, height, width)`` in [0, 1] at any resolution;
            ``None`` means one region that covers the whole image.
    """

    slots: tuple[tuple[str | None, ...], ...]
    masks: Tensor | None = None

    @property
    def regions(self) -> int:
        """Regions per image."""
        return len(self.slots[0])


def whole_image(slots: Iterable[str | None]) -> Route:
    """A route in which each image has one slot everywhere."""
    return Route(tuple((slot,) for slot in slots))


class RoutedLinear(nn.Module):
    """A frozen linear layer with low-rank deltas per slot.

    ``on_text`` layers (cross-attention keys and values) see text rows, one a
    region; the others see pixels and blend the regions' deltas by mask.
    """

    def __init__(self, base: nn.Linear, owner: ConceptAdapter, *, on_text: bool) -> None:
        super().__init__()
        self.base = base
        self.on_text = on_text
        self.down = nn.ParameterDict()  # (rank, in)
        self.up = nn.ParameterDict()  # (out, rank)
        self._owner = [owner]  # in a list: not a submodule of its own child
        self._packed: tuple[int, Tensor, Tensor] | None = None

    def forward(self, hidden: Tensor, *_: object) -> Tensor:
        """``(rows, positions, in)`` -> ``(rows, positions, out)``."""
        out: Tensor = self.base(hidden)
        route = self._owner[0].route
        if route is None:
            return out
        down, up = self._pack(route, hidden.dtype)
        inner = torch.bmm(hidden, down)  # (rows, positions, regions * rank)
        if not self.on_text and route.masks is not None:
            mask = self._owner[0].mask_at(hidden.shape[1], hidden.dtype)
            inner = inner * mask.repeat_interleave(self._owner[0].rank, dim=2)
        return torch.baddbmm(out, inner, up)

    def _pack(self, route: Route, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``(rows, in, regions * rank)`` and ``(rows, regions * rank, out)`` for ``route``."""
        if self._packed is not None and self._packed[0] == self._owner[0].route_serial:
            return self._packed[1], self._packed[2]
        zero_down, zero_up = self._zeros()
        scale = self._owner[0].scale
        if self.on_text:
            groups: list[tuple[str | None, ...]] = [(s,) for row in route.slots for s in row]
        else:
            groups = list(route.slots)
        kinds = list(dict.fromkeys(groups))
        down = torch.stack(
            [torch.cat([self.down[_k(s)] if s else zero_down for s in g]) for g in kinds]
        ).to(dtype)
        up = torch.stack(
            [torch.cat([self.up[_k(s)] if s else zero_up for s in g], 1) for g in kinds]
        ).to(dtype)
        rows = torch.tensor([kinds.index(g) for g in groups], device=down.device)
        packed = down[rows].transpose(1, 2), up[rows].transpose(1, 2) * scale
        if not torch.is_grad_enabled():
            self._packed = (self._owner[0].route_serial, *packed)
        return packed

    def _zeros(self) -> tuple[Tensor, Tensor]:
        weight, rank = self.base.weight, self._owner[0].rank
        return (
            torch.zeros(rank, weight.shape[1], device=weight.device),
            torch.zeros(weight.shape[0], rank, device=weight.device),
        )

    def forget_packed(self) -> None:
        """Drop the packed weights: parameters or the route have changed."""
        self._packed = None


def _k(slot: str) -> str:
    # ParameterDict keys must not hold dots; SKUs may.
    return slot.replace(".", "\x1f")


class ConceptAdapter:
    """Installs :class:`RoutedLinear` into a base UNet and manages its slots."""

    def __init__(self, base: BaseModel, settings: AdapterSettings) -> None:
        self.rank = settings.rank
        self.scale = 1.0
        self.route: Route | None = None
        self.route_serial = 0
        self._packed_route: Route | None = None
        self._masks: dict[tuple[int, torch.dtype], Tensor] = {}
        self._device = base.device
        self.layers: dict[str, RoutedLinear] = {}
        for name, module in list(base.unet.named_modules()):
            kind = {"attn1": "self", "attn2": "cross"}.get(name.rsplit(".", 1)[-1])
            if kind is None or kind not in settings.attentions:
                continue
            for target in settings.targets:
                on_text = kind == "cross" and target in ("to_k", "to_v")
                self._install(module, f"{name}.{target}", target, on_text=on_text)
        if not self.layers:
            raise ValueError(f"no attention layer matches {settings.targets}")

    def _install(self, attention: nn.Module, name: str, target: str, *, on_text: bool) -> None:
        parent_path, _, leaf = target.rpartition(".")
        parent = attention.get_submodule(parent_path) if parent_path else attention
        linear = parent[int(leaf)] if isinstance(parent, nn.ModuleList) else getattr(parent, leaf)
        assert isinstance(linear, nn.Linear)
        routed = RoutedLinear(linear, self, on_text=on_text)
        if isinstance(parent, nn.ModuleList):
            parent[int(leaf)] = routed
        else:
            setattr(parent, leaf, routed)
        self.layers[name] = routed

    # --- slots ---------------------------------------------------------------

    @property
    def slots(self) -> set[str]:
        """Names of all installed slots."""
        layer = next(iter(self.layers.values()))
        return {key.replace("\x1f", ".") for key in layer.down}

    def add_slot(self, slot: str, generator: torch.Generator) -> None:
        """A fresh slot that changes nothing yet: ``D ~ N(0, 1/in)``, ``U = 0``."""
        for layer in self.layers.values():
            out_width, in_width = layer.base.weight.shape
            noise = torch.randn(self.rank, in_width, generator=generator)
            layer.down[_k(slot)] = nn.Parameter((noise / math.sqrt(in_width)).to(self._device))
            layer.up[_k(slot)] = nn.Parameter(
                torch.zeros(out_width, self.rank, device=self._device)
            )

    def drop_slot(self, slot: str) -> None:
        """Remove a slot; unknown slots are an error."""
        for layer in self.layers.values():
            del layer.down[_k(slot)], layer.up[_k(slot)]
        self._forget_packed()

    def copy_slot(self, source: str, target: str) -> None:
        """A frozen copy, used as the teacher of a task (Eq. 6 needs the model before it)."""
        self.load_slot(target, self.slot_tensors(source))

    def slot_tensors(self, slot: str) -> dict[str, Tensor]:
        """``{layer}.down (rank, in)`` and ``{layer}.up (out, rank)``, fp32 on the CPU."""
        tensors = {}
        for name, layer in self.layers.items():
            tensors[f"{name}.down"] = layer.down[_k(slot)].detach().float().cpu().clone()
            tensors[f"{name}.up"] = layer.up[_k(slot)].detach().float().cpu().clone()
        return tensors

    def load_slot(self, slot: str, tensors: Mapping[str, Tensor]) -> None:
        """Install ``tensors`` as a frozen slot.

        Raises:
            ValueError: the tensors are of other layers or another rank than this adapter's.
        """
        expected = {f"{name}.{side}" for name in self.layers for side in ("down", "up")}
        if set(tensors) != expected:
            raise ValueError(
                f"adapter holds {len(tensors)} tensors, expected {len(expected)} of this base "
                "and these adapter settings; was `learning.yaml: adapter` changed?"
            )
        for name, layer in self.layers.items():
            down, up = tensors[f"{name}.down"], tensors[f"{name}.up"]
            if down.shape != (self.rank, layer.base.weight.shape[1]):
                raise ValueError(f"{name}.down has shape {tuple(down.shape)}, not rank {self.rank}")
            for side, value in ((layer.down, down), (layer.up, up)):
                parameter = nn.Parameter(value.float().to(self._device), requires_grad=False)
                side[_k(slot)] = parameter
        self._forget_packed()

    def parameters_of(self, slot: str) -> list[nn.Parameter]:
        """Every parameter of ``slot``, in a fixed order."""
        return [p for x in self.layers.values() for p in (x.down[_k(slot)], x.up[_k(slot)])]

    # --- routing -------------------------------------------------------------

    @contextmanager
    def routed(self, route: Route | None) -> Iterator[None]:
        """Apply ``route`` to every forward pass inside the block."""
        previous = self.route
        self._set(route)
        try:
            yield
        finally:
            self._set(previous)

    def _set(self, route: Route | None) -> None:
        self.route = route
        # The same route object step after step (a sampling loop) keeps its packed weights.
        if route is not None and route is not self._packed_route:
            self._packed_route = route
            self._forget_packed()

    def parameters_changed(self) -> None:
        """Tell the adapter that parameters were written in place, so packed copies are stale."""
        self._forget_packed()

    def _forget_packed(self) -> None:
        self.route_serial += 1
        self._masks.clear()
        for layer in self.layers.values():
            layer.forget_packed()

    def mask_at(self, positions: int, dtype: torch.dtype) -> Tensor:
        """The route's masks at a layer of ``positions`` pixels: ``(batch, positions, regions)``."""
        assert self.route is not None
        assert self.route.masks is not None
        key = (positions, dtype)
        if key not in self._masks:
            self._masks[key] = resize_masks(self.route.masks, positions).to(dtype).transpose(1, 2)
        return self._masks[key]


def resize_masks(masks: Tensor, positions: int) -> Tensor:
    """``(batch, regions, h, w)`` -> ``(batch, regions, positions)``, area-averaged."""
    height, width = masks.shape[-2:]
    rows = round(math.sqrt(positions * height / width))
    resized = nn.functional.interpolate(masks, (rows, positions // rows), mode="area")
    return resized.flatten(2)


def slot_names(concepts: Sequence[str], settings: AdapterSettings) -> list[str]:
    """The slot of each SKU in ``concepts``: its own, or the collection's shared one."""
    return [sku if settings.slots == "per_concept" else "shared" for sku in concepts]
