"""The concept adapter: small deltas on layers of the base's denoiser, routed per image region.

A *slot* is one set of deltas. With ``slots: per_concept`` every SKU owns
one; with ``shared`` (as in L2DM) and ``consolidated`` the collection owns a single one. A
:class:`Route` says which slot acts where: on which image of the batch, and at
which pixels. A prompt that names no learned product gets no slot, so base-only
pictures are those of the untouched base.

For a linear layer ``W``, a pixel ``p`` of image ``b`` and
regions ``r`` with masks ``m_r`` in [0, 1]::

    y_p = W x_p + sum_r m_r(p) * U_s(r) D_s(r) x_p

What ``U D`` is, low-rank factors or another change, says :mod:`.parametrisation`.

Masks on weights make two products in one picture use their own deltas side by
side instead of a merged average of both (compare Mix-of-Show, arXiv:2305.18292,
which masks attention outputs only).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.parametrisation import make_parametrisation
from catalog_pipeline.diffusion.routed_linear import RoutedLinear, Rows, slot_key
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.records import SHARED
from catalog_pipeline.settings import AdapterSettings

_ROUTES_IN_USE = 2
"""Routes whose packed weights are kept: a guided batch, and its conditional half alone."""


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


class ConceptAdapter:
    """Installs :class:`RoutedLinear` into the base's denoiser and manages its slots."""

    def __init__(self, base: BaseModel, settings: AdapterSettings) -> None:
        if settings.parametrisation != "low_rank" and not base.weights_are_at_hand:
            raise ConfigurationError(
                f"learning.yaml: adapter.parametrisation is {settings.parametrisation}, which "
                "reads the base's weights; expected low_rank with quantise or offload: groups of "
                "base_model.yaml; set one or the other"
            )
        self.parametrisation = make_parametrisation(settings)
        self.scale = 1.0
        self._compounds: dict[str, dict[str, float]] = {}
        self.route: Route | None = None
        self.route_serial = 0
        self._serials = 0
        self._known_routes: dict[int, tuple[Route, int]] = {}  # by id: the route and its serial
        self._masks: dict[tuple[Any, ...], Tensor] = {}
        self._base = base
        self.layers: dict[str, RoutedLinear] = {}
        self._trained = base.trained_layers(settings)
        for name, rows in base.delta_layers(settings).items():
            linear = base.denoiser.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            self.layers[name] = RoutedLinear(linear, self, rows)
            base.denoiser.set_submodule(name, self.layers[name])
        base.regions.holders.append(lambda: partial(self.routed, self.route))
        if not self._trained:
            raise ValueError(
                f"no layer matches {settings.targets}, {settings.attentions}, {settings.blocks}"
            )

    # --- slots ---------------------------------------------------------------

    @property
    def slots(self) -> set[str]:
        """Names of all installed slots."""
        keys = {key for layer in self.layers.values() for key in layer.slots}
        return {key.replace("\x1f", ".") for key in keys}

    def add_slot(self, slot: str, generator: torch.Generator) -> None:
        """A fresh slot in the trained layers, which changes nothing yet."""
        for layer in (self.layers[name] for name in self._trained):
            fresh = self.parametrisation.initial(layer.outline, generator)
            layer.slots[slot_key(slot)] = nn.ParameterDict(
                {name: nn.Parameter(value.to(self._base.device)) for name, value in fresh.items()}
            )
        self._forget_packed()

    def drop_slot(self, slot: str) -> None:
        """Remove a slot or a compound; ``KeyError`` when there is none."""
        if self._compounds.pop(slot, None) is None:
            for layer in self.layers_of(slot).values():
                del layer.slots[slot_key(slot)]
        self._forget_packed()

    def compose(self, slot: str, members: Mapping[str, float]) -> None:
        """Define ``slot`` as the weighed sum of the deltas of ``members``, a view of theirs.

        Changes of a member show in the compound, and gradients pass through it.
        Of use where several tasks' deltas act together (C-LoRA, CIDM).

        Raises:
            ValueError: no member, or one that is not installed.
        """
        unknown = sorted(set(members) - self.slots)
        if unknown or not members:
            raise ValueError(
                f"cannot compose '{slot}' of {sorted(members)}: not installed {unknown}"
            )
        self._compounds[slot] = dict(members)
        self._forget_packed()

    def members(self, slot: str) -> dict[str, float]:
        """The slots whose deltas ``slot`` adds up, by weight; of no compound: itself."""
        return dict(self._compounds.get(slot, {slot: 1.0}))

    def layers_of(self, slot: str) -> dict[str, RoutedLinear]:
        """The layers at which ``slot``, or a member of the compound, has a delta."""
        found = {n: layer for n, layer in self.layers.items() if self.holds(layer, slot)}
        if not found:
            raise KeyError(slot)
        return found

    def holds(self, layer: RoutedLinear, slot: str) -> bool:
        """Whether ``slot``, or a member of the compound, has a delta at ``layer``."""
        return any(slot_key(name) in layer.slots for name in self._compounds.get(slot, (slot,)))

    def factors(self, layer: RoutedLinear, slot: str) -> tuple[Tensor, Tensor]:
        """``down`` (r, in) and ``up`` (out, r) of ``slot`` at ``layer``, which holds it."""
        compound = self._compounds.get(slot)
        if compound is None:
            return self.parametrisation.factors(layer.outline, layer.tensors(slot))
        pairs = [
            (self.factors(layer, member), weight)
            for member, weight in compound.items()
            if self.holds(layer, member)
        ]
        downs = torch.cat([down for (down, _), _ in pairs])
        return downs, torch.cat([up * weight for (_, up), weight in pairs], 1)

    def copy_slot(self, source: str, target: str) -> None:
        """A frozen copy, used as the teacher of a task (Eq. 6 needs the model before it)."""
        self.load_slot(target, self.slot_tensors(source))

    def slot_tensors(self, slot: str) -> dict[str, Tensor]:
        """``{layer}.{tensor}`` of the parametrisation (``down``, ``up``, ...), fp32 on the CPU."""
        return {
            f"{name}.{key}": value.detach().float().cpu().clone()
            for name, layer in self.layers_of(slot).items()
            for key, value in layer.tensors(slot).items()
        }

    def load_slot(self, slot: str, tensors: Mapping[str, Tensor]) -> None:
        """Install ``tensors`` as a frozen slot; layers that they leave out stay the base's.

        So what was learned with other ``blocks`` or another ``rank``, or before
        ``feed_forward`` or more ``targets`` were switched on, renders as it did.

        Raises:
            ValueError: the tensors are of layers that this adapter lacks, a part of a
                layer's, of other shapes or of another parametrisation.
        """
        held: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            layer_name, _, key = name.rpartition(".")
            held.setdefault(layer_name, {})[key] = value
        shapes = {
            f"{name}.{key}": shape
            for name, layer in self.layers.items()
            if name in held
            for key, shape in self._shapes(layer, held[name]).items()
        }
        if not tensors or set(tensors) != set(shapes):
            raise ValueError(
                f"adapter holds {len(tensors)} tensors, expected {len(shapes)} of its layers in "
                "this base and these adapter settings; was `learning.yaml: adapter` changed?"
            )
        for name, value in tensors.items():
            if tuple(value.shape) != shapes[name]:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}, expected {shapes[name]}; was another "
                    "rank or other `learning.yaml: adapter` settings used?"
                )
        if slot in self.slots:
            self.drop_slot(slot)
        for name, layer in self.layers.items():
            if name in held:
                own = {
                    key: tensors[f"{name}.{key}"].float().to(self._base.device)
                    for key in self.parametrisation.shapes(layer.outline)
                }
                layer.slots[slot_key(slot)] = nn.ParameterDict(
                    {key: nn.Parameter(value, requires_grad=False) for key, value in own.items()}
                )
        self._forget_packed()

    def _shapes(
        self, layer: RoutedLinear, tensors: Mapping[str, Tensor]
    ) -> dict[str, tuple[int, ...]]:
        """What ``tensors`` of one layer should have, at their own rank where they are whole."""
        kind = self.parametrisation
        if kind.names == set(tensors):
            kind = kind.from_tensors(tensors)
        return kind.shapes(layer.outline)

    def is_as_set(self, slot: str) -> bool:
        """Whether ``slot`` has the shapes of a new one, so that training can go on with it."""
        return all(
            {key: tuple(value.shape) for key, value in layer.tensors(slot).items()}
            == self.parametrisation.shapes(layer.outline)
            for layer in self.layers_of(slot).values()
        )

    def parameters_of(self, slot: str) -> list[nn.Parameter]:
        """Every parameter of ``slot``, in a fixed order."""
        return [p for layer in self.layers_of(slot).values() for p in layer.tensors(slot).values()]

    # --- routing -------------------------------------------------------------

    @contextmanager
    def routed(self, route: Route | None) -> Iterator[None]:
        """Apply ``route`` to every forward pass inside the block.

        Raises:
            KeyError: it names a slot that is not installed.
        """
        previous = self.route
        self._set(route)
        try:
            yield
        finally:
            self._set(previous)

    def _set(self, route: Route | None) -> None:
        self.route = route
        if route is None:
            return
        # The same route objects step after step (a sampling loop) keep their packed weights.
        if id(route) not in self._known_routes:
            if len(self._known_routes) == _ROUTES_IN_USE:
                self._forget_packed()
            for slot in {slot for row in route.slots for slot in row if slot is not None}:
                self.layers_of(slot)
            self._serials += 1
            self._known_routes[id(route)] = (route, self._serials)
        self.route_serial = self._known_routes[id(route)][1]

    def parameters_changed(self) -> None:
        """Tell the adapter that parameters were written in place, so packed copies are stale."""
        self._forget_packed()

    def _forget_packed(self) -> None:
        self._known_routes.clear()
        self._masks.clear()
        for layer in self.layers.values():
            layer.forget_packed()

    def slots_of_rows(self, rows: Rows) -> Sequence[tuple[str | None, ...]] | None:
        """The slots of each row that a layer sees: of an image's regions, or of one text."""
        if self.route is None:
            return None
        if rows == "text":
            return [(slot,) for row in self.route.slots for slot in row]
        return self.route.slots

    def mask_at(
        self, rows: Rows, positions: int, dtype: torch.dtype, regions: tuple[int, ...], rank: int
    ) -> Tensor | None:
        """The route's masks at a layer of ``positions``, each repeated for its factors.

        Returns:
            ``(batch, positions, len(regions) * rank)``; ``None`` for a route without masks.
        """
        if self.route is None or self.route.masks is None:
            return None
        key = (self.route_serial, rows, positions, dtype, regions, rank)
        if key not in self._masks:
            masks = self._base.position_masks(self.route.masks, positions, rows)
            masks = masks[:, list(regions)]
            self._masks[key] = masks.to(dtype).transpose(1, 2).repeat_interleave(rank, 2)
        return self._masks[key]


def slot_of(sku: str, settings: AdapterSettings) -> str:
    """The slot of ``sku``: its own, or the collection's shared one."""
    return SHARED if settings.one_for_all else sku
