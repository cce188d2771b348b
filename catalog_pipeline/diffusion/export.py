"""Learned concepts in the forms that plain diffusers and transformers load.

What is stored of a concept (:mod:`~catalog_pipeline.diffusion.parts`) is turned into
factors ``delta W = up @ down`` a layer, whatever its parametrisation, and these either
into the keys of a LoRA file or into the weights themselves. Token rows and whole
pipelines are written by the family.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.parametrisation import find_parametrisation

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.families.interchange import KohyaPlace

Factors = tuple[Tensor, Tensor]
"""``down`` (r, in) and ``up`` (out, r) of one layer."""


def layer_factors(slot: Mapping[str, Tensor], denoiser: nn.Module) -> dict[str, Factors]:
    """The factors of every layer of a stored slot; the layer names are paths in ``denoiser``.

    Raises:
        ValueError: ``denoiser`` has no such layer, or one of another shape, or the tensors
            are of no known parametrisation.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, value in slot.items():
        layer, _, tensor = name.rpartition(".")
        layers.setdefault(layer, {})[tensor] = value
    factors = {}
    for layer, tensors in layers.items():
        weight = _weight_of(denoiser, layer)
        kind = find_parametrisation(layer, tensors)
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        if shapes != kind.shapes(weight):
            raise ValueError(
                f"{layer} holds tensors of shapes {shapes}, expected {kind.shapes(weight)} of this "
                "base; was the concept learned on another base model?"
            )
        with torch.no_grad():
            factors[layer] = kind.factors(weight, tensors)
    return factors


def _weight_of(denoiser: nn.Module, layer: str) -> Tensor:
    try:
        module = denoiser.get_submodule(layer)
    except AttributeError as error:
        raise ValueError(
            f"the base has no layer {layer}; was the concept learned on another base model?"
        ) from error
    assert isinstance(module, nn.Linear)
    return module.weight


def merge_factors(denoiser: nn.Module, factors: Mapping[str, Factors]) -> None:
    """Add ``up @ down`` to the weight of every layer, in place."""
    with torch.no_grad():
        for layer, (down, up) in factors.items():
            weight = _weight_of(denoiser, layer)
            weight += (up @ down).to(weight.dtype)


def lora_state_dict(factors: Mapping[str, Factors], prefix: str = "unet") -> dict[str, Tensor]:
    """The tensors of a LoRA file as ``load_lora_weights`` of diffusers' pipelines reads it.

    ``<prefix>.<layer>.lora_A.weight`` (rank, in) and ``<prefix>.<layer>.lora_B.weight``
    (out, rank), where ``prefix`` is the pipeline's name of the denoiser.
    Every layer has the same rank (zeros fill up), since a reader without alphas
    may take the first layer's rank as the alpha of all.

    Raises:
        ValueError: the change of a layer needs a rank at which its factors would
            hold more numbers than the change itself.
    """
    tensors = {}
    for layer, (down, up) in _of_one_rank(factors).items():
        tensors[f"{prefix}.{layer}.lora_A.weight"] = down
        tensors[f"{prefix}.{layer}.lora_B.weight"] = up
    return {name: value.contiguous() for name, value in tensors.items()}


def kohya_state_dict(
    factors: Mapping[str, Factors], place: Callable[[str], KohyaPlace]
) -> dict[str, Tensor]:
    """The tensors of a LoRA file with kohya's names, as ComfyUI and sd-scripts read it.

    ``lora_unet_<module>.lora_down.weight`` (rank, in), ``.lora_up.weight`` (out, rank) and
    ``.alpha``, which is the rank: ``delta W = up @ down``. Of a module of several layers the
    factors stand side by side, each layer's ``up`` in its own rows::

        up = diag(up_q, up_k, up_v)      down = [down_q; down_k; down_v]

    Layers of it without a change are zeros there.

    Raises:
        ValueError: as :func:`lora_state_dict`, or ``place`` has no name for a layer.
    """
    modules: dict[str, dict[int, str]] = {}
    counts = {}
    for layer in factors:
        module, part, parts = place(layer)
        modules.setdefault(module, {})[part] = layer
        counts[module] = parts
    ranked = _of_one_rank(factors)
    tensors = {}
    for module, layers in modules.items():
        down, up = ranked[next(iter(layers.values()))]
        nothing = torch.zeros_like(down), torch.zeros_like(up)
        pairs = [
            ranked[layers[part]] if part in layers else nothing for part in range(counts[module])
        ]
        down = torch.cat([down for down, _ in pairs])
        up = torch.block_diag(*(up for _, up in pairs))
        tensors[f"lora_unet_{module}.lora_down.weight"] = down.contiguous()
        tensors[f"lora_unet_{module}.lora_up.weight"] = up.contiguous()
        tensors[f"lora_unet_{module}.alpha"] = torch.tensor(float(len(down)))
    return tensors


def _of_one_rank(factors: Mapping[str, Factors]) -> dict[str, Factors]:
    """The same changes in fitting factors, filled up with zeros to the largest rank."""
    fitting = {layer: _fitting(layer, *pair) for layer, pair in factors.items()}
    rank = max((down.shape[0] for down, _ in fitting.values()), default=0)
    return {
        layer: (
            nn.functional.pad(down, (0, 0, 0, rank - down.shape[0])),
            nn.functional.pad(up, (0, rank - down.shape[0])),
        )
        for layer, (down, up) in fitting.items()
    }


def _fitting(layer: str, down: Tensor, up: Tensor) -> Factors:
    """The same change in factors that are no larger than the change."""
    rank, in_width, out_width = down.shape[0], down.shape[1], up.shape[0]
    room = in_width * out_width // (in_width + out_width)
    if rank <= room:
        return down, up
    left, values, right = torch.linalg.svd(up.double() @ down.double(), full_matrices=False)
    # Below this, a singular value is the rounding of the fp32 numbers that came in.
    floor = values[0] * max(in_width, out_width) * torch.finfo(torch.float32).eps
    rank = int((values > floor).sum())
    if rank > room:
        raise ValueError(
            f"the change of {layer} ({out_width} x {in_width}) has rank {rank}; a LoRA of rank "
            f"above {room} is larger than the change itself; export with --format pipeline"
        )
    return right[:rank].float(), (left[:, :rank] * values[:rank]).float()


def inversion_token(sku: str) -> str:
    """What a prompt says after ``load_textual_inversion``: ``<sku>`` in lower case.

    diffusers expands it to all rows of the concept, but only when it is written as
    CLIP's tokenizers normalise it.
    """
    return f"<{sku.lower()}>"


def adapter_name(text: str) -> str:
    """``text`` as the name of a LoRA: peft makes a module of it, whose name holds no dot.

    Two texts never share one: a text that is changed gets a piece of its hash.
    """
    clean = text.replace(".", "_")
    return text if clean == text else f"{clean}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
