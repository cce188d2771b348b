"""LoRA files that were trained elsewhere, read as factors of the adapter's layers.

Read are safetensors with the names of diffusers and PEFT (``unet.``, ``transformer.``,
``base_model.model.``), of kohya's trainers (``lora_unet_``) and of others
(``diffusion_model.``): diffusers' own converters turn them into paths in the denoiser. Scales
are multiplied in before, so that ``delta W = up @ down``::

    kohya   alpha / rank                  a tensor ``<module>.alpha`` beside the factors
    PEFT    lora_alpha / r                metadata of the file, or ``adapter_config.json``
            lora_alpha / sqrt(r)          with ``use_rslora``, arXiv:2312.03732
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from catalog_pipeline.diffusion.export import Factors
from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.routed_linear import RoutedLinear

_OTHER_KINDS = {
    r"dora_scale|lora_magnitude_vector": "DoRA",
    r"\.lokr_": "LoKr",
    r"\.hada_": "LoHa",
    r"\.lora_mid": "LoCon with a Tucker core",
    r"\.oft_": "OFT",
    r"\.diff(_b)?$": "whole weights",
}
"""Pieces of a tensor's name -> what the file then is, besides or instead of a LoRA."""
_TEXT_ENCODERS = ("lora_te_", "lora_te1_", "lora_te2_", "text_encoder.", "text_encoder_2.")
_FACTOR = re.compile(
    r"(?P<module>.+?)"
    r"(?P<kind>\.lora_(?:A|B|down|up)|[._]lora(?:_linear_layer)?\.(?:down|up))"
    r"(?:\.default)?\.weight"
)
"""The name of one of the two tensors of a layer, in any of the forms."""
_PEFT = "base_model.model."
_METADATA = "lora_adapter_metadata"
"""Where diffusers' ``save_lora_weights`` keeps PEFT's configuration."""


@dataclass(frozen=True)
class ForeignLora:
    """What a file changes.

    Attributes:
        factors: by layer of the adapter, scales multiplied in.
        text_encoder: layers of text encoders.
        others: layers of the denoiser that the adapter lacks, or that no base has.
    """

    factors: Mapping[str, Factors]
    text_encoder: tuple[str, ...]
    others: tuple[str, ...]

    def slot(self) -> dict[str, Tensor]:
        """``{layer}.down`` and ``{layer}.up`` of a slot of low rank."""
        tensors = {}
        for layer, pair in self.factors.items():
            tensors[f"{layer}.down"], tensors[f"{layer}.up"] = _balanced(*pair)
        return tensors


def check_lora_file(path: Path) -> None:
    """Refuse what is no LoRA in safetensors, by its name and header alone.

    Raises:
        ValueError: another kind of file, or of change of the weights.
    """
    if path.suffix.lower() != ".safetensors":
        raise ValueError(
            "it is no .safetensors file, and pickled weights are never opened; expected a LoRA in "
            "safetensors"
        )
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"it is not a whole safetensors file ({error})") from error
    for piece, kind in _OTHER_KINDS.items():
        if any(re.search(piece, name) for name in names):
            raise ValueError(f"it is {kind}; expected a plain LoRA")
    odd = [n for n in names if not _FACTOR.fullmatch(n) and not n.endswith(".alpha")]
    if odd or not names:
        raise ValueError(
            f"{len(odd)} of its {len(names)} tensors are none of a LoRA"
            + (f", such as {odd[0]}" if odd else "")
        )


def read_lora_file(path: Path, base: BaseModel, layers: Mapping[str, RoutedLinear]) -> ForeignLora:
    """What the file changes, on the adapter's ``layers`` of ``base``. Reads no pickle.

    A layer whose change is zero is left out.

    Raises:
        ValueError: as :func:`check_lora_file`, half of a layer, a scale that is not said, no
            layer of this base, or shapes of another one.
    """
    check_lora_file(path)
    tensors = {name.replace(".default.", "."): value for name, value in load_file(path).items()}
    modules: dict[str, dict[str, Tensor]] = {}
    for name, value in _scaled(tensors, path).items():
        match = _FACTOR.fullmatch(name)
        assert match is not None
        modules.setdefault(match["module"], {})[name] = value
    text = tuple(sorted(module for module in modules if module.startswith(_TEXT_ENCODERS)))
    factors: dict[str, Factors] = {}
    others = []
    for module, both in modules.items():
        if module in text:
            continue
        if len(both) != 2:
            raise ValueError(f"it has one of the two factors of {module} only")
        found = _converted(both, base)
        others += [] if found else [module]
        for layer, pair in found.items():
            if not all(factor.isfinite().all() for factor in pair):
                raise ValueError(f"{layer} holds numbers that are not finite")
            if not all(factor.any() for factor in pair):
                continue
            if layer in layers:
                factors[layer] = _fitted(layer, pair, layers[layer])
            else:
                others.append(layer)
    if not factors:
        raise ValueError(
            f"of its {len(modules)} layers none is one that {base.title} adapts here; was it "
            "trained on another base model?"
        )
    return ForeignLora(factors, text, tuple(others))


def _converted(both: Mapping[str, Tensor], base: BaseModel) -> dict[str, Factors]:
    """One module of the file in the denoiser's names; none where no converter knows it.

    One by one, since some converters drop what they do not know and others refuse the file.
    """
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        return _pairs(base.read_lora(both), base.denoiser_part)
    except (ValueError, KeyError, IndexError, RuntimeError, TypeError):
        return {}
    finally:
        diffusers_logging.set_verbosity(verbosity)


def _fitted(layer: str, pair: Factors, routed: RoutedLinear) -> Factors:
    down, up = pair
    out_width, in_width = routed.base.weight.shape
    if down.dim() != 2 or up.dim() != 2 or (len(up), down.shape[1]) != (out_width, in_width):
        raise ValueError(
            f"{layer} has factors of shapes {tuple(down.shape)} and {tuple(up.shape)}, expected "
            f"(rank, {in_width}) and ({out_width}, rank) of this base; was it trained on another "
            "base model?"
        )
    return down, up


def read_embeddings(path: Path, base: BaseModel) -> Tensor:
    """``(tokens, width)`` of a textual inversion in safetensors.

    Raises:
        ValueError: another kind of file, or rows of another base.
    """
    if path.suffix.lower() != ".safetensors":
        raise ValueError("it is no .safetensors file, and pickled weights are never opened")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"it is not a whole safetensors file ({error})") from error
    return base.inversion_rows(tensors)


def _pairs(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Factors]:
    """``down`` and ``up``, fp32, by path in the denoiser."""
    found: dict[str, dict[bool, Tensor]] = {}
    for name, value in tensors.items():
        match = _FACTOR.fullmatch(name)
        if match is None:
            raise ValueError(f"diffusers reads a tensor as {name}, which is none of a LoRA")
        layer = match["module"].removeprefix(f"{prefix}.")
        found.setdefault(layer, {})[_is_down(match)] = value.float()
    for layer, both in found.items():
        if len(both) < 2:
            raise ValueError(f"it has one of the two factors of {layer} only")
    return {layer: (both[True], both[False]) for layer, both in found.items()}


def _is_down(match: re.Match[str]) -> bool:
    return match["kind"].endswith(("A", "down"))


def _scaled(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The factors alone, fp32, with every layer's scale multiplied into ``down``."""
    config = _peft_config(path, tensors)
    scaled = {}
    for name, value in tensors.items():
        match = _FACTOR.fullmatch(name)
        if match is not None:
            scale = 1.0
            if _is_down(match):
                alpha = tensors.get(f"{match['module']}.alpha")
                if alpha is not None:
                    scale = float(alpha) / len(value)
                elif config:
                    scale = _peft_scale(config, match["module"], len(value))
            scaled[name] = value.float() * scale
    return scaled


def _peft_config(path: Path, tensors: Iterable[str]) -> dict[str, Any]:
    """PEFT's configuration by ``<part>.<key>``; of a file of PEFT's own by ``<key>``."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    config: dict[str, Any] = json.loads(metadata.get(_METADATA) or "{}")
    if any(name.startswith(_PEFT) for name in tensors):
        beside = path.with_name("adapter_config.json")
        if not beside.is_file():
            raise ValueError(
                "it is PEFT's, and its scale stands in adapter_config.json; expected that file "
                "beside it"
            )
        config |= json.loads(beside.read_text(encoding="utf-8"))
    if any(key.rpartition(".")[2] == "use_dora" and value for key, value in config.items()):
        raise ValueError("it is DoRA; expected a plain LoRA")
    return config


def _peft_scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    part, _, layer = module.partition(".")
    if module.startswith(_PEFT):
        prefix, layer = "", module.removeprefix(_PEFT)
    else:
        prefix = f"{part}."
    alpha = config.get(f"{prefix}lora_alpha")
    for pattern, other in (config.get(f"{prefix}alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            alpha = other
            break
    if alpha is None:
        return 1.0
    return float(alpha) / (math.sqrt(rank) if config.get(f"{prefix}use_rslora") else rank)


def _balanced(down: Tensor, up: Tensor) -> Factors:
    """The same product with factors of about one size, so that fp16 holds both as well.

    By a power of two, which rounds nothing.
    """
    ratio = float(down.abs().max() / up.abs().max())
    power = 2.0 ** round(math.log2(ratio) / 2)
    return down / power, up * power
