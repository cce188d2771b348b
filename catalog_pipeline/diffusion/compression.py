"""A learned slot in fewer bytes: low-rank factors of the rank that they need, in 8 or 4 bits.

The change of a layer is written by its singular vectors, ``U D = sum_k s_k l_k r_k^T``. Of
all layers' components, those that hold the least energy ``s_k^2`` for the ``out + in``
numbers that they take are left out. The vectors of the others are rounded to codes::

    U D ~ sum_k scale_k * up_codes_k^T down_codes_k

=======================  ======================================================  ===========
tensor                   what it is                                              dtype
=======================  ======================================================  ===========
``<layer>.down_codes``   ``(rank, in)``; of 4 bits ``(rank, ceil(in / 2))``      int8, uint8
``<layer>.up_codes``     ``(rank, out)``; of 4 bits ``(rank, ceil(out / 2))``    int8, uint8
``<layer>.delta_codes``  of ``dense``: ``(out, in)``; of 4 bits half of it       int8, uint8
``scale``                of every component (row of ``delta_codes``), layer by   float32
                         layer in the order of their names
=======================  ======================================================  ===========

Codes are symmetric, -127 to 127 or -7 to 7. Of 4 bits a byte holds two, each plus 8, so that
a 0 fills up an odd row. A vector of ``spectral_shift`` stays in half precision: its name in
the file takes as many bytes as its codes would save.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.parametrisation import Dense, LowRank

_SCALE = "scale"
_BIAS = 8
"""Of a code of 4 bits."""


def compress_slot(slot: Mapping[str, Tensor], bits: int, tolerance: float) -> dict[str, Tensor]:
    """The tensors of a slot as they are stored; :func:`restore_slot` reads them.

    Args:
        slot: ``{layer}.{tensor}`` of a parametrisation.
        bits: of a number: 4, 8, or 16, which is half precision.
        tolerance: root of the share of the slot's energy that may be left out of low-rank
            factors. With 0 and 16 bits the tensors are cast and nothing else.
    """
    if bits == 16 and not tolerance:
        return {name: value.half() for name, value in slot.items()}
    layers = by_layer(slot)
    factors = {name: own for name, own in layers.items() if set(own) == LowRank.names}
    components = _largest_components(factors, tolerance)
    stored, scales = {}, []
    for name in sorted(layers.keys() - factors.keys() | components.keys()):
        own = layers[name]
        if name in components:
            left, values, right = components[name]
            if bits == 16:
                root = values.sqrt()[:, None]
                own = {"down": (right * root).half(), "up": (left * root).T.half()}
            else:
                (up, up_scale), (down, down_scale) = _round(left, bits), _round(right, bits)
                own = {"down_codes": down, "up_codes": up}
                scales.append(values * up_scale * down_scale)
        elif bits != 16 and set(own) == Dense.names:
            codes, scale = _round(own["delta"].double(), bits)
            own = {"delta_codes": codes}
            scales.append(scale)
        else:
            own = {key: value.half() for key, value in own.items()}
        stored.update(_named(name, own))
    return stored | ({_SCALE: torch.cat(scales).float()} if scales else {})


def restore_slot(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``{layer}.{tensor}`` of the parametrisation, fp32."""
    slot, layers = {}, by_layer({name: value for name, value in stored.items() if name != _SCALE})
    rows = 0
    for name in sorted(layers):
        own = {key: _numbers(value) for key, value in layers[name].items()}
        if any(key.endswith("_codes") for key in own):
            count = len(next(iter(own.values())))
            scale = stored[_SCALE][rows : rows + count, None]
            rows += count
            if "delta_codes" in own:
                own = {"delta": own["delta_codes"] * scale}
            else:
                root = scale.sqrt()
                own = {
                    "down": own["down_codes"] * root,
                    "up": (own["up_codes"] * root).T.contiguous(),
                }
        slot.update(_named(name, own))
    return slot


def by_layer(slot: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """``{layer}.{tensor}`` as layers of named tensors."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, value in slot.items():
        layer, _, tensor = name.rpartition(".")
        layers.setdefault(layer, {})[tensor] = value
    return layers


def _named(layer: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{layer}.{name}": value for name, value in tensors.items()}


def _largest_components(
    factors: Mapping[str, Mapping[str, Tensor]], tolerance: float
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Layer -> ``left (rank, out)``, ``values (rank,)``, ``right (rank, in)``, fp64.

    A layer of which nothing stays is absent.
    """
    found = {name: _components(own["down"], own["up"]) for name, own in factors.items()}
    widths = {name: left.shape[1] + right.shape[1] for name, (left, _, right) in found.items()}
    ranks = ranks_to_keep(
        {name: values for name, (_, values, _) in found.items()}, widths, tolerance
    )
    return {
        name: (left[:rank], values[:rank], right[:rank])
        for name, (left, values, right) in found.items()
        if (rank := ranks[name])
    }


def _components(down: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of ``up @ down``, at the cost of its small factors."""
    up_basis, up_rest = torch.linalg.qr(up.double())
    down_basis, down_rest = torch.linalg.qr(down.double().T)
    left, values, right = torch.linalg.svd(up_rest @ down_rest.T, full_matrices=False)
    return (up_basis @ left).T, values, right @ down_basis.T


def ranks_to_keep(
    values: Mapping[str, Tensor], widths: Mapping[str, int], tolerance: float
) -> dict[str, int]:
    """How many components of each layer stay; at least one of all layers together.

    Args:
        values: singular values ``(rank,)`` of each layer, the largest first.
        widths: numbers that a component of each layer takes.
        tolerance: root of the share of the energy, ``values^2`` over all layers, that may go.
    """
    if not values:
        return {}
    names = list(values)
    energy = torch.cat([values[name].double() ** 2 for name in names])
    layer = torch.cat([torch.full((len(values[name]),), i) for i, name in enumerate(names)])
    worth = energy / torch.tensor([float(widths[name]) for name in names])[layer]
    order = worth.sort(stable=True).indices
    gone = order[energy[order].cumsum(0) <= tolerance**2 * energy.sum()][: len(order) - 1]
    lost = torch.bincount(layer[gone], minlength=len(names))
    return {name: len(values[name]) - int(lost[i]) for i, name in enumerate(names)}


def _round(rows: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes of ``rows (n, width)``, packed where they have 4 bits, and a scale ``(n,)`` each.

    The scale is the one of least squares for the codes that were chosen.
    """
    top = 2 ** (bits - 1) - 1
    step = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / top
    codes = (rows / step).round()
    scale = (rows * codes).sum(1) / (codes**2).sum(1).clamp(min=1)
    packed = codes.to(torch.int8)
    return (_pack(packed) if bits == 4 else packed).contiguous(), scale


def _pack(codes: Tensor) -> Tensor:
    whole = nn.functional.pad((codes + _BIAS).to(torch.uint8), (0, codes.shape[1] % 2))
    return whole[:, ::2] * 16 + whole[:, 1::2]


def _numbers(codes: Tensor) -> Tensor:
    """fp32; of packed codes unpacked, ``(n, width)``."""
    if codes.dtype == torch.uint8:
        pairs = torch.stack([codes >> 4, codes & 15], 2).flatten(1)  # (n, width or one more)
        codes = pairs.to(torch.int8) - _BIAS
        if bool((codes[:, -1] == -_BIAS).all()):
            codes = codes[:, :-1]
    return codes.float()
