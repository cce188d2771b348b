"""Whether the weights of a part are there, whole, and those of its configuration.

Told from names, sizes and headers: no weight is read. Every ``find_...`` gives the reason
why a part cannot be used, or ``None``.

Both libraries open what does not fit. Of a tensor that is in no file, transformers draws
random values, others each time, and diffusers leaves a hole that ends the first use; numbers
of eight bits are taken for the weights, without the scales that belong to them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import ModelMixin
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.constants import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils import logging as transformers_logging

from catalog_pipeline.diffusion.base_files import find_file_fault, list_names, partial_files
from catalog_pipeline.safetensors_header import told_size_bytes

_PICKLED = (".bin", ".ckpt", ".pt", ".pth")
_READABLE = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "BOOL"})
"""Types that a tensor may be stored in: of weights, and of counters and indices beside them."""
_USE_FLOATS = "use the model's folder in bf16, fp16 or fp32"
_COPY_AGAIN = "copy the base model again"
_DOWNLOAD_AGAIN = "download or copy the base model again"


class StoredTensor(NamedTuple):
    """A tensor as the header of ``file`` tells it."""

    file: str
    dtype: str
    shape: tuple[int, ...]


def find_weights_fault(part: Path, kind: type[nn.Module], config: Mapping[str, Any]) -> str | None:
    """Why the weights in the folder ``part`` do not make a ``kind`` of ``config``, if so.

    ``kind`` is a class of diffusers or transformers.
    """
    if not (part / "config.json").is_file():
        return f"{part.name} lacks config.json; {_DOWNLOAD_AGAIN}"
    if config.get("quantization_config") is not None:
        method = config["quantization_config"]
        method = method.get("quant_method", method) if isinstance(method, Mapping) else method
        return (
            f"{part.name}/config.json has a quantization_config ({str(method)[:60]}); expected "
            f"weights that are not quantised; {_USE_FLOATS}"
        )
    whole = SAFETENSORS_WEIGHTS_NAME if issubclass(kind, ModelMixin) else SAFE_WEIGHTS_NAME
    index = part / f"{whole}.index.json"
    told: Mapping[str, str] = {}
    # With both, diffusers reads the shards, transformers the one file.
    if index.is_file() and (issubclass(kind, ModelMixin) or not (part / whole).is_file()):
        read = json.loads(index.read_text(encoding="utf-8")).get("weight_map")
        if not _is_weight_map(read):
            return f"{part.name}/{index.name} has no weight_map of tensors; {_DOWNLOAD_AGAIN}"
        told = read
    names = sorted(set(told.values())) or [whole]
    if missing := [name for name in names if not (part / name).is_file()]:
        return _say_missing(part, missing, whole)
    tensors: dict[str, StoredTensor] = {}
    for name in names:
        read = _read_header(part / name)
        if isinstance(read, str):
            return read
        tensors.update(read)
    if lost := [name for name in told if name not in tensors]:
        return (
            f"{part.name}/{told[lost[0]]} does not hold {list_names(lost, 1)}, which "
            f"{index.name} expects there: it is a file of another model; {_DOWNLOAD_AGAIN}"
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in _READABLE:
            return (
                f"{part.name}/{tensor.file} stores {name} as {tensor.dtype}; expected F32, F16 or "
                f"BF16: weights that are quantised are not opened; {_USE_FLOATS}"
            )
    return _find_misfit(part, kind, config, tensors, in_shards=bool(told))


def _is_weight_map(read: Any) -> bool:
    return isinstance(read, dict) and bool(read) and all(isinstance(n, str) for n in read.values())


def _say_missing(part: Path, missing: list[str], whole: str) -> str:
    """``part`` lacks these files: with what it has instead, and what to do about that."""
    plain_index = f"{whole}.index.json"
    names = sorted(path.name for path in part.iterdir() if not path.name.startswith("."))
    present = [name for name in names if not name.endswith(".json")]
    begins, ends = whole.removesuffix("safetensors"), ".safetensors"
    variants = [n for n in present if n.startswith(begins) and n.endswith(ends) and n != whole]
    indices = [n for n in names if n.startswith(f"{whole}.index.") and n != plain_index]
    if (part / missing[0]).is_symlink():
        advice = f"{missing[0]} is a link to a file that is gone; {_DOWNLOAD_AGAIN}"
    elif (part / missing[0]).is_dir():
        advice = f"{missing[0]} is a folder; {_DOWNLOAD_AGAIN}"
    elif partial := partial_files(part):
        advice = f"{partial[0]} is a download that has not finished; finish it, or copy it again"
    elif indices:
        advice = _use_variant(indices[0], plain_index)
    elif missing == [whole] and variants:
        advice = _use_variant(variants[0], whole)
    elif any(name.endswith(".gguf") for name in present):
        advice = f"GGUF files are not opened; {_USE_FLOATS}"
    elif any(name.endswith(_PICKLED) for name in present):
        advice = (
            "pickled weights are never opened; write safetensors with "
            "save_pretrained(FOLDER, safe_serialization=True)"
        )
    else:
        advice = _DOWNLOAD_AGAIN
    return (
        f"{part.name} lacks the weights {list_names(missing)} and holds "
        f"{list_names(present) or 'none'}; {advice}"
    )


def _use_variant(variant: str, plain: str) -> str:
    return (
        f"these are the weights of a variant: rename {variant} to {plain}, or write the folder "
        "anew with save_pretrained(FOLDER) without variant"
    )


def _read_header(path: Path) -> dict[str, StoredTensor] | str:
    """The tensors of a file by name, or why it cannot be used."""
    place = f"{path.parent.name}/{path.name}"
    if fault := find_file_fault(path):
        return f"{place} {fault}"
    try:
        # Not "pt": its mapping may be written to, so that it counts as memory of its size.
        with safe_open(path, "np") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            return {
                name: StoredTensor(path.name, told.get_dtype(), tuple(told.get_shape()))
                for name, told in slices.items()
            }
    except (SafetensorError, OSError) as error:
        why = str(error)
    try:
        size, told_size = path.stat().st_size, told_size_bytes(path)
        if size < told_size:
            why = f"it is cut off after {size:,} of {told_size:,} bytes"
    except (ValueError, OSError) as error:
        why = str(error)
    return f"{place} is not a whole safetensors file ({why}); {_DOWNLOAD_AGAIN}"


def _find_misfit(
    part: Path,
    kind: type[nn.Module],
    config: Mapping[str, Any],
    tensors: Mapping[str, StoredTensor],
    *,
    in_shards: bool,
) -> str | None:
    """What of ``tensors`` is not as ``kind`` expects it.

    A text encoder may lie in the file of a larger model, beside what it does not read; a
    denoiser or VAE with more tensors than its configuration has layers would lose them.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    try:
        with quiet_libraries():
            if issubclass(kind, ModelMixin):
                misfit = _compare_diffusers(kind, config, shapes, in_shards)
            else:
                misfit = _compare_transformers(kind, part, shapes)
    # What the classes raise for a configuration that they cannot read, they name nowhere.
    except Exception as error:
        return (
            f"{part.name}/config.json does not describe a {kind.__name__} "
            f"({type(error).__name__}: {str(error)[:200]}); {_COPY_AGAIN}"
        )
    said = config.get("_class_name", kind.__name__)
    other = "" if said == kind.__name__ else f" (it says {str(said)[:60]}, not {kind.__name__})"
    if misfit is not None:
        return (
            f"{misfit}: the weights of {part.name} are not those of its config.json{other}; "
            f"{_DOWNLOAD_AGAIN}"
        )
    return None


def _compare_diffusers(
    kind: Any, config: Mapping[str, Any], shapes: dict[str, tuple[int, ...]], in_shards: bool
) -> str | None:
    with torch.device("meta"):
        model = kind.from_config(dict(config))
    if not in_shards:
        # Renames those of older attention layers, as opening does.
        model._fix_state_dict_keys_on_load(shapes)
    missing = [name for name, _ in model.named_parameters() if name not in shapes]
    misshapen = [
        (name, shapes[name], tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    known = {name for name, _ in model.named_parameters()} | set(model.state_dict())
    ignored = kind._keys_to_ignore_on_load_unexpected or ()
    surplus = [
        name
        for name in shapes
        if name not in known and not any(re.search(pattern, name) for pattern in ignored)
    ]
    return _say_misfit(missing, misshapen) or (
        f"{list_names(surplus, 1)} belongs to no layer" if surplus else None
    )


def _compare_transformers(
    kind: Any, part: Path, shapes: Mapping[str, tuple[int, ...]]
) -> str | None:
    """By its own loader, over tensors without content: it knows older names and tied weights."""
    _, found = kind.from_pretrained(
        None,
        config=kind.config_class.from_pretrained(part, local_files_only=True),
        state_dict={name: torch.empty(shape, device="meta") for name, shape in shapes.items()},
        device_map={"": "meta"},
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    misshapen = [(name, tuple(got), tuple(want)) for name, got, want in found["mismatched_keys"]]
    return _say_misfit(sorted(found["missing_keys"]), sorted(misshapen))


def _say_misfit(
    missing: list[str], misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
) -> str | None:
    if misshapen:
        name, got, want = misshapen[0]
        return f"{name} has the shape {got}, expected {want}"
    if missing:
        return f"no file holds {list_names(missing, 1)}"
    return None


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """What is wrong is said here, in one line; the libraries say nothing besides."""
    logs: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    before = [log.get_verbosity() for log in logs]
    transformers_logging.disable_progress_bar()
    try:
        for log in logs:
            log.set_verbosity(log.CRITICAL)
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.set_verbosity(level)
