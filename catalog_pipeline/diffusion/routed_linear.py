"""A frozen linear layer with the deltas of every slot, and the fused product that trains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

Rows = Literal["image", "text", "texts", "joint"]
"""What a row of a layer's input is.

``image``: an image's positions. ``text``: the text of one region, ``batch * regions`` rows.
``texts``: those of all regions one behind the other. ``joint``: ``texts``, then ``image``.
"""


class RouteOwner(Protocol):
    """What a layer asks of the adapter that installed it."""

    @property
    def route_serial(self) -> int:
        """Changes with the route in use."""
        ...

    @property
    def scale(self) -> float:
        """Strength of all deltas."""
        ...

    def slots_of_rows(self, rows: Rows) -> Sequence[tuple[str | None, ...]] | None:
        """The slots of each row of a layer's input; ``None`` without a route."""
        ...

    def holds(self, layer: RoutedLinear, slot: str) -> bool:
        """Whether ``slot`` has a delta at ``layer``."""
        ...

    def factors(self, layer: RoutedLinear, slot: str) -> tuple[Tensor, Tensor]:
        """``down`` (r, in) and ``up`` (out, r) of ``slot`` at ``layer``, which holds it."""
        ...

    def mask_at(
        self, rows: Rows, positions: int, dtype: torch.dtype, regions: tuple[int, ...], rank: int
    ) -> Tensor | None:
        """``(batch, positions, regions * rank)``; ``None`` where a route has no masks."""
        ...


class RoutedLinear(nn.Module):
    """A frozen linear layer with the deltas of every slot.

    A row of a "text" layer (cross-attention keys and values) is the text of one region; a
    row of the others is an image, at whose positions the regions' deltas are blended by mask.
    """

    def __init__(self, base: nn.Linear, owner: RouteOwner, rows: Rows) -> None:
        super().__init__()
        self.base = base
        self.rows = rows
        self.slots = nn.ModuleDict()  # slot -> ParameterDict of the parametrisation's tensors
        self._owner = [owner]  # in a list: not a submodule of its own child
        self._packed: dict[int, _Packed | None] = {}  # by the serial of the route
        # Its weight can be read as it lies: not in fewer bits, nor fetched by a hook.
        self._is_plain = type(base) is nn.Linear and not base._forward_pre_hooks

    @property
    def outline(self) -> Tensor:
        """What parametrisations are told of the frozen weight ``(out, in)``.

        The weight itself, or where that is not at hand a tensor of its shape.
        """
        outline: Tensor = getattr(self.base, "outline", None)  # type: ignore[assignment]
        return self.base.weight if outline is None else outline

    def tensors(self, slot: str) -> dict[str, nn.Parameter]:
        """The tensors of ``slot`` by name; ``KeyError`` when it is not installed."""
        return dict(self.slots[slot_key(slot)].items())  # type: ignore[operator]

    # Left out of a compiled block, which would be compiled anew for every route.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, hidden_states: Tensor, *_: object) -> Tensor:
        """``(rows, positions, in)`` -> ``(rows, positions, out)``."""
        packed = self._pack(hidden_states.dtype)
        if packed is None:
            out: Tensor = self.base(hidden_states)
            return out
        mask = None
        if self.rows != "text":
            positions, dtype = hidden_states.shape[1], hidden_states.dtype
            mask = self._owner[0].mask_at(self.rows, positions, dtype, packed.regions, packed.rank)
        if packed.bare:
            return self._add_behind(packed, hidden_states, mask)
        if not self._is_plain:
            delta = _Delta.apply(hidden_states, packed.down, packed.up, mask)  # type: ignore[no-untyped-call]
            assert isinstance(delta, Tensor)
            return self.base(hidden_states) + delta
        product = _ProductWithDelta.apply(  # type: ignore[no-untyped-call]
            hidden_states, self.base.weight, self.base.bias, packed.down, packed.up, mask
        )
        assert isinstance(product, Tensor)
        return product

    def _add_behind(self, packed: _Packed, hidden_states: Tensor, mask: Tensor | None) -> Tensor:
        """The base's product, and the deltas of the rows behind those that have none.

        With guidance half of the rows are the negative prompts', which read the bare base.
        """
        out: Tensor = self.base(hidden_states)
        inner = hidden_states[packed.bare :] @ packed.down.to(hidden_states.dtype).mT
        if mask is not None:
            inner = inner * mask[packed.bare :]
        up = packed.up.to(hidden_states.dtype).mT
        if torch.is_grad_enabled():
            return torch.cat([out[: packed.bare], out[packed.bare :] + inner @ up])
        _add_product(out[packed.bare :], inner, up)
        return out

    def _pack(self, dtype: torch.dtype) -> _Packed | None:
        """The factors of the route, laid side by side; ``None`` where every row is the base's."""
        owner = self._owner[0]
        groups = owner.slots_of_rows(self.rows)
        if groups is None:
            return None
        serial = owner.route_serial
        if serial in self._packed:
            return self._packed[serial]
        packed = self._lay_side_by_side(groups, dtype)
        if packed is None or not packed.up.requires_grad:
            self._packed[serial] = packed
        return packed

    def _lay_side_by_side(
        self, groups: Sequence[tuple[str | None, ...]], dtype: torch.dtype
    ) -> _Packed | None:
        owner = self._owner[0]
        named = {slot for group in groups for slot in group if slot is not None}
        held = {slot for slot in named if owner.holds(self, slot)}
        groups = [tuple(slot if slot in held else None for slot in group) for group in groups]
        bare = next((row for row, group in enumerate(groups) if any(group)), 0)
        groups = groups[bare:]
        kinds = list(dict.fromkeys(groups))
        # Regions that no row gives a slot (a background) would only add products with zero.
        regions = tuple(r for r, slots in enumerate(zip(*kinds, strict=True)) if any(slots))
        if not regions:
            return None
        factors = {slot: owner.factors(self, slot) for slot in sorted(held)}
        rank = max(down.shape[0] for down, _ in factors.values())
        padded = {slot: _pad(*pair, rank) for slot, pair in factors.items()}
        nothing = tuple(torch.zeros_like(x) for x in next(iter(padded.values())))
        downs, ups = [], []
        for group in kinds:
            pairs = [padded[slot] if slot else nothing for slot in (group[r] for r in regions)]
            downs.append(_join([down for down, _ in pairs], 0))
            up = _join([up for _, up in pairs], 1)
            ups.append(up if owner.scale == 1.0 else up * owner.scale)
        # One product of matrices for all rows is far cheaper than one a row. With guidance there is
        # one a row, whatever the others are: a picture is the same alone and in company.
        if len(kinds) == 1 and not bare:
            down, up = downs[0], ups[0]
        else:
            rows = torch.tensor([kinds.index(g) for g in groups], device=ups[0].device)
            down, up = torch.stack(downs)[rows], torch.stack(ups)[rows]
        if not up.requires_grad:  # it will be kept: cast it once
            down, up = down.to(dtype), up.to(dtype)
        return _Packed(down, up, rank, regions, bare)

    def forget_packed(self) -> None:
        """Drop the packed weights: parameters or the routes in use have changed."""
        self._packed.clear()


class _ProductWithDelta(torch.autograd.Function):
    """``x W^T + b + (x down^T * mask) up^T`` with a frozen ``W`` and ``b``.

    Written by hand because autograd makes a dozen nodes a layer of the plain expression, of
    which several read and write all of the output; a training step takes 3 to 15 % less
    time a step with it, by how busy the machine is. No second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        """``hidden_states`` (rows, positions, in) -> (rows, positions, out).

        ``down`` ([rows,] R, in), ``up`` ([rows,] out, R), ``mask`` (rows, positions, R).
        """
        out = nn.functional.linear(hidden_states, weight, bias)
        ctx.dtypes = (down.dtype, up.dtype)
        down, up = down.to(hidden_states.dtype), up.to(hidden_states.dtype)
        inner = hidden_states @ down.mT
        if mask is not None:
            inner *= mask
        _add_product(out, inner, up.mT)
        ctx.save_for_backward(hidden_states, weight, down, up, mask, inner)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of ``hidden_states``, ``down`` and ``up``; the others are frozen."""
        hidden_states, weight, down, up, mask, inner = ctx.saved_tensors
        grad = grad.contiguous()
        through = grad @ up
        if mask is not None:
            through *= mask
        of_hidden_states = of_down = of_up = None
        if ctx.needs_input_grad[0]:
            of_hidden_states = grad @ weight
            _add_product(of_hidden_states, through, down)
        if ctx.needs_input_grad[3]:
            of_down = _sum_of_products(through, hidden_states, down.dim()).to(ctx.dtypes[0])
        if ctx.needs_input_grad[4]:
            of_up = _sum_of_products(grad, inner, up.dim()).to(ctx.dtypes[1])
        return of_hidden_states, None, None, of_down, of_up, None


class _Delta(torch.autograd.Function):
    """``(x down^T * mask) up^T``: :class:`_ProductWithDelta` without the frozen product."""

    @staticmethod
    def forward(ctx: Any, hidden_states: Tensor, down: Tensor, up: Tensor, mask: Any) -> Tensor:
        """Shapes as of :meth:`_ProductWithDelta.forward`."""
        ctx.dtypes = (down.dtype, up.dtype)
        down, up = down.to(hidden_states.dtype), up.to(hidden_states.dtype)
        inner = hidden_states @ down.mT
        if mask is not None:
            inner *= mask
        ctx.save_for_backward(hidden_states, down, up, mask, inner)
        return inner @ up.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of ``hidden_states``, ``down`` and ``up``."""
        hidden_states, down, up, mask, inner = ctx.saved_tensors
        grad = grad.contiguous()
        through = grad @ up
        if mask is not None:
            through *= mask
        of_hidden_states = of_down = of_up = None
        if ctx.needs_input_grad[0]:
            of_hidden_states = through @ down
        if ctx.needs_input_grad[1]:
            of_down = _sum_of_products(through, hidden_states, down.dim()).to(ctx.dtypes[0])
        if ctx.needs_input_grad[2]:
            of_up = _sum_of_products(grad, inner, up.dim()).to(ctx.dtypes[1])
        return of_hidden_states, of_down, of_up, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right`` in place; ``right`` is one matrix, or one a row."""
    if right.dim() == 2:
        total.view(-1, total.shape[-1]).addmm_(left.view(-1, left.shape[-1]), right)
    else:
        total.baddbmm_(left, right)


def _sum_of_products(left: Tensor, right: Tensor, dims: int) -> Tensor:
    """``left^T right`` over the positions, and over the rows too where ``dims`` is 2."""
    if dims == 2:
        left, right = left.flatten(0, 1), right.flatten(0, 1)
    return left.mT @ right


@dataclass(frozen=True)
class _Packed:
    """``down`` ([rows,] R, in) and ``up`` ([rows,] out, R), ``R = len(regions) * rank``.

    They are of the rows behind the first ``bare`` ones, which no region gives a slot.
    """

    down: Tensor
    up: Tensor
    rank: int
    regions: tuple[int, ...]
    bare: int


def _join(tensors: list[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def _pad(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The same change written with ``rank`` rows: slots of several ranks share one product."""
    missing = rank - down.shape[0]
    if not missing:
        return down, up
    return nn.functional.pad(down, (0, 0, 0, missing)), nn.functional.pad(up, (0, missing))


def slot_key(slot: str) -> str:
    """The name of a slot in a ``ModuleDict``: its keys must not hold dots, SKUs may."""
    return slot.replace(".", "\x1f")
