"""Learned concepts in the forms that plain diffusers and transformers load.

What is stored of a concept (:mod:`~catalog_pipeline.diffusion.parts`) is turned into
factors ``delta W = up @ down`` a layer, whatever its parametrisation, and these either
into the keys of a LoRA file or into the weights themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load
from torch import Tensor, nn
from transformers import AddedToken

from catalog_pipeline.diffusion.base import BaseModel
from catalog_pipeline.diffusion.parametrisation import (
    Dense,
    LowRank,
    Parametrisation,
    SpectralShift,
)

Factors = tuple[Tensor, Tensor]
"""``down`` (r, in) and ``up`` (out, r) of one layer."""

_SLOT = "slot/"
_TOKEN = "token/"


def stored_slot(data: bytes) -> dict[str, Tensor]:
    """``{layer}.{tensor}`` of a part's slot, fp32; empty when the part holds token rows only."""
    found = load(data).items()
    return {k.removeprefix(_SLOT): v.float() for k, v in found if k.startswith(_SLOT)}


def stored_tokens(data: bytes) -> Tensor:
    """The token rows of a part in prompt order, ``(tokens, width)``, fp32."""
    tensors = load(data)
    count = sum(name.startswith(_TOKEN) for name in tensors)
    if not count:
        raise ValueError("the part holds no token rows; expected the part concept/<sku>")
    return torch.stack([tensors[f"{_TOKEN}{index}"].float() for index in range(count)])


def layer_factors(slot: Mapping[str, Tensor], unet: nn.Module) -> dict[str, Factors]:
    """The factors of every layer of a stored slot; the layer names are paths in ``unet``.

    Raises:
        ValueError: ``unet`` has no such layer, or one of another shape, or the tensors
            are of no known parametrisation.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, value in slot.items():
        layer, _, tensor = name.rpartition(".")
        layers.setdefault(layer, {})[tensor] = value
    spectral = SpectralShift()
    factors = {}
    for layer, tensors in layers.items():
        weight = _weight_of(unet, layer)
        kind = _parametrisation_of(layer, tensors, spectral)
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        if shapes != kind.shapes(weight):
            raise ValueError(
                f"{layer} holds tensors of shapes {shapes}, expected {kind.shapes(weight)} of this "
                "base; was the concept learned on another base model?"
            )
        with torch.no_grad():
            factors[layer] = kind.factors(weight, tensors)
    return factors


def _weight_of(unet: nn.Module, layer: str) -> Tensor:
    try:
        module = unet.get_submodule(layer)
    except AttributeError as error:
        raise ValueError(
            f"the base has no layer {layer}; was the concept learned on another base model?"
        ) from error
    assert isinstance(module, nn.Linear)
    return module.weight


def _parametrisation_of(
    layer: str, tensors: Mapping[str, Tensor], spectral: SpectralShift
) -> Parametrisation:
    """Told by the names of the tensors, so that no setting has to be as it was."""
    if set(tensors) == {"down", "up"}:
        return LowRank(int(tensors["down"].shape[0]))
    if set(tensors) == {"shift"}:
        return spectral
    if set(tensors) == {"delta"}:
        return Dense()
    raise ValueError(
        f"{layer} holds the tensors {', '.join(sorted(tensors))}; expected down and up, shift, or "
        "delta; update this program"
    )


def merge_factors(unet: nn.Module, factors: Mapping[str, Factors]) -> None:
    """Add ``up @ down`` to the weight of every layer, in place."""
    with torch.no_grad():
        for layer, (down, up) in factors.items():
            weight = _weight_of(unet, layer)
            weight += (up @ down).to(weight.dtype)


def lora_state_dict(factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    """The tensors of a LoRA file as ``StableDiffusionPipeline.load_lora_weights`` reads it.

    ``unet.<layer>.lora_A.weight`` (rank, in) and ``unet.<layer>.lora_B.weight`` (out, rank).
    Every layer has the same rank (zeros fill up), since a reader without alphas
    may take the first layer's rank as the alpha of all.

    Raises:
        ValueError: the change of a layer needs a rank at which its factors would
            hold more numbers than the change itself.
    """
    fitting = {layer: _fitting(layer, *pair) for layer, pair in factors.items()}
    rank = max((down.shape[0] for down, _ in fitting.values()), default=0)
    tensors = {}
    for layer, (down, up) in fitting.items():
        missing = rank - down.shape[0]
        tensors[f"unet.{layer}.lora_A.weight"] = nn.functional.pad(down, (0, 0, 0, missing))
        tensors[f"unet.{layer}.lora_B.weight"] = nn.functional.pad(up, (0, missing))
    return {name: value.contiguous() for name, value in tensors.items()}


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


def inversion_state_dict(sku: str, rows: Tensor) -> dict[str, Tensor]:
    """The one tensor ``{<sku>: (tokens, width)}`` that ``load_textual_inversion`` reads."""
    return {inversion_token(sku): rows.contiguous()}


def add_tokens(tokenizer: Any, text_encoder: Any, rows: Mapping[str, Tensor]) -> None:
    """Add ``token -> row (width,)`` to the vocabulary and to the token table, in place.

    Tokens are taken as they are written: two that differ in case stay two.

    Raises:
        ValueError: a token is in the vocabulary already.
    """
    known = tokenizer.get_vocab()
    taken = sorted(token for token in rows if token in known)
    if taken:
        raise ValueError(
            f"the base's vocabulary already holds {', '.join(taken)}; expected none of the "
            "concept's placeholder tokens; rename the product's folder"
        )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in rows])
    size = max(len(tokenizer), text_encoder.get_input_embeddings().num_embeddings)
    text_encoder.resize_token_embeddings(size, mean_resizing=False)
    table = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        for token, row in rows.items():
            table[tokenizer.convert_tokens_to_ids(token)] = row.to(table)


def save_pipeline(base: BaseModel, scheduler: Any, folder: Path) -> None:
    """Write ``base`` as a folder for ``StableDiffusionPipeline.from_pretrained``."""
    for part in (base.unet, base.vae):
        nn.Module.to(part, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    pipeline: Any = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
