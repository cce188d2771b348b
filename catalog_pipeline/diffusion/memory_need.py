"""How much memory learning and a night need, from configurations and headers of weights alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped, unused-ignore]
from safetensors import safe_open
from torch import nn

from catalog_pipeline.diffusion.activations import Activations, passed_blocks
from catalog_pipeline.diffusion.base import choose_device, choose_dtype, find_family
from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.parametrisation import make_parametrisation
from catalog_pipeline.diffusion.quantised_linear import NF4_BLOCK
from catalog_pipeline.diffusion.residence import waits_in_cpu_memory
from catalog_pipeline.settings import Settings

Work = Literal["learn", "night"]

_QUANTISED = re.compile(r"(?:layers|blocks)\.\d+\..*weight")


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes on the device.

    Attributes:
        weights: part -> its frozen weights as they lie there while in use.
        waiting: those of ``weights`` that are there only while they are used themselves.
        adapter: a slot in training, its gradient and the optimiser's moments.
        step: what autograd keeps of a training step.
        batch: activations of a batch of a night.
        encoding, decoding: of the VAE, while views are encoded and pictures decoded.
    """

    weights: Mapping[str, int]
    waiting: frozenset[str]
    adapter: int
    step: int
    batch: int
    encoding: int
    decoding: int

    def of(self, work: Work) -> int:
        """The peak of ``learn`` or of a ``night``."""
        here = sum(size for part, size in self.weights.items() if part not in self.waiting)
        here += self.adapter
        used = {part: self.weights[part] for part in self.waiting}
        vae = used.pop("vae", 0)
        texts = max(used.values(), default=0)
        activations, pixels = (
            (self.step, self.encoding) if work == "learn" else (self.batch, self.decoding)
        )
        return here + max(activations, vae + pixels, texts)


def memory_need(settings: Settings, folder: Path) -> MemoryNeed | None:
    """What the base in ``folder`` needs with ``settings``; ``None`` of blocks never measured."""
    skeleton = _open_skeleton(settings, folder)
    denoiser = skeleton.denoiser
    blocks = list(passed_blocks(denoiser, settings))
    if not blocks:
        return None
    dtype, source = skeleton.dtype, settings.base_model
    weights = {
        part: _weights(skeleton, folder / part, settings)
        for part, kind in skeleton.part_classes.items()
        if issubclass(kind, nn.Module)
    }
    waits = {p for p in weights if waits_in_cpu_memory(p, source.offload, skeleton.denoiser_part)}
    if skeleton.denoiser_part in waits:  # a layer at a time, beside all else
        waits.remove(skeleton.denoiser_part)
        weights[skeleton.denoiser_part] = _largest_layer(denoiser, dtype)
    activations = Activations(skeleton, settings, folder, blocks)
    return MemoryNeed(
        weights=weights,
        waiting=frozenset(waits),
        adapter=_adapter(skeleton, settings),
        step=activations.step(),
        batch=activations.batch(),
        encoding=activations.vae(16, activations.side_px**2),
        decoding=activations.vae(settings.generation.batch_size, activations.night_pixels),
    )


def free_bytes(device: torch.device) -> int:
    """What ``device`` has left for this process, of which it may hold some already."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    found = re.search(r"MemAvailable:\s+(\d+) kB", _meminfo())
    return int(found[1]) * 1024 if found else 0


def device_of(settings: Settings) -> torch.device:
    """The device that base_model.yaml names."""
    return choose_device(settings.base_model.device)


def what_to_change(settings: Settings, folder: Path, work: Work, free: int) -> str:
    """The first settings, in an order of growing cost, with which ``work`` fits in ``free``."""
    words: list[str] = []
    need = None
    for wording, changed in _changes(settings):
        before = need
        settings, need = changed(settings), memory_need(changed(settings), folder)
        assert need is not None
        if before is None or need.of(work) < before.of(work):
            words.append(wording)
        if need.of(work) <= free:
            return f"set {', '.join(words)}: about {need.of(work) / 1e9:.1f} GB"
    assert need is not None
    return (
        f"even {', '.join(words)} needs about {need.of(work) / 1e9:.1f} GB; use a device with more "
        "memory or a smaller base"
    )


def _changes(settings: Settings) -> Iterator[tuple[str, Any]]:
    """What may be changed, and how; nothing that is so already."""
    base, learning = settings.base_model, settings.learning
    device = choose_device(base.device)
    if choose_dtype(base.dtype, device) == torch.float32:
        yield "dtype: bfloat16", _with("base_model", dtype="bfloat16")
    if not base.gradient_checkpointing:
        yield "gradient_checkpointing: true", _with("base_model", gradient_checkpointing=True)
    if base.offload == "none":
        yield "offload: text_encoder", _with("base_model", offload="text_encoder")
    if base.quantise == "none":
        yield "quantise: int8", _with("base_model", quantise="int8")
    if learning.batch_size > 1:
        yield "learning.yaml: batch_size: 1", _with("learning", batch_size=1)
    if settings.generation.batch_size > 1:
        yield "generation.yaml: batch_size: 1", _with("generation", batch_size=1)
    if base.side_px is None or base.side_px > 512:
        yield "side_px: 512", _with("base_model", side_px=512)
    if base.offload != "groups":
        yield "offload: groups", _with("base_model", offload="groups", compile=False)


def _with(room: str, **values: Any) -> Any:
    def changed(settings: Settings) -> Settings:
        part = getattr(settings, room).model_copy(update=values)
        return settings.model_copy(update={room: part})

    return changed


def _meminfo() -> str:
    try:
        return Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return ""


def _open_skeleton(settings: Settings, folder: Path) -> BaseModel:
    """The family with a denoiser and a VAE that hold no weights."""
    family = find_family(folder)
    device = choose_device(settings.base_model.device)
    parts: dict[str, Any] = {}
    with init_empty_weights(include_buffers=True):
        for name in (family.denoiser_part, "vae"):
            kind: Any = family.part_classes[name]
            parts[name] = kind.from_config(kind.load_config(folder / name, local_files_only=True))
    dtype = choose_dtype(settings.base_model.dtype, device)
    return family(parts, "", torch.device("meta"), dtype, settings.base_model.side_px)


def _weights(base: BaseModel, folder: Path, settings: Settings) -> int:
    """Bytes of a part on the device, by the headers of its files."""
    half = folder.name in base.half_parts
    itemsize = base.dtype.itemsize if half else 4
    quantise = settings.base_model.quantise if half and folder.name != "vae" else "none"
    denoises = folder.name == base.denoiser_part
    total = 0.0
    for name, shape in _shapes(folder):
        size = float(torch.Size(shape).numel())
        inside = _QUANTISED.search(name) and (not denoises or "transformer_blocks." in name)
        if quantise != "none" and inside and len(shape) == 2:
            total += size + 4 * shape[0] if quantise == "int8" else size * (0.5 + 4 / NF4_BLOCK)
        else:
            total += size * itemsize
    return int(total)


def _shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    index = next(iter(sorted(folder.glob("*.safetensors.index.json"))), None)
    files = [path.name for path in sorted(folder.glob("*.safetensors"))]
    if index is not None:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(found.values()))
    elif len(files) > 1:  # other precisions beside the one that is opened
        files = [name for name in files if name.count(".") == 1]
    for name in files:
        with safe_open(folder / name, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                yield key, tuple(file.get_slice(key).get_shape())


def _largest_layer(denoiser: nn.Module, dtype: torch.dtype) -> int:
    sizes = [sum(p.numel() for p in layer.parameters(False)) for layer in denoiser.modules()]
    return max(sizes) * dtype.itemsize


def _adapter(base: BaseModel, settings: Settings) -> int:
    """A slot in fp32 with its gradient and two moments; with a shared one the teacher too."""
    kind = make_parametrisation(settings.learning.adapter)
    entries = sum(
        torch.Size(shape).numel()
        for name in base.trained_layers(settings.learning.adapter)
        for shape in kind.shapes(base.denoiser.get_submodule(name).weight).values()
    )
    moments = 8 if settings.learning.optimizer == "adamw" else 2
    teacher = 4 if settings.learning.adapter.slots == "shared" else 0
    return int(entries * (4 + 4 + moments + teacher))
