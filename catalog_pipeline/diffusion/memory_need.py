"""How much memory learning and a night need, from configurations and headers of weights alone.

::

    step  = batch * itemsize * sum over blocks of (kept * tokens * width)     what autograd keeps
    batch = 2 * pictures * itemsize * max over blocks of the same             with guidance

``tokens`` are the pixels at a block and, in joint attention, the texts of its regions.
``kept`` is counted in tensors of tokens x width, measured on a CPU as the storages that autograd
saves (``tests/diffusion/test_memory_need.py`` measures them again); a residual block of a UNet
keeps 3 of its input and 3 of its output. A checkpointed block keeps its input, and one
block at a time all of it. Attention is taken to keep no matrix of tokens x tokens, as fused kernels
do; a bias by region is one. Of what a GPU's libraries take for themselves nothing is known here.
"""

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

from catalog_pipeline.diffusion.base import choose_device, choose_dtype, find_family
from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.parametrisation import make_parametrisation
from catalog_pipeline.diffusion.prompts import open_prompt_tokenizer
from catalog_pipeline.diffusion.quantised_linear import NF4_BLOCK
from catalog_pipeline.diffusion.residence import waits_in_cpu_memory
from catalog_pipeline.diffusion.sampling import coded_together
from catalog_pipeline.settings import Settings

Work = Literal["learn", "night"]

_KEPT: Mapping[str, tuple[float, float]] = {
    "Flux2TransformerBlock": (22.5, 25.5),
    "Flux2SingleTransformerBlock": (21.2, 25.7),
    "QwenImageTransformerBlock": (18.6, 23.6),
    "BasicTransformerBlock": (36.0, 48.0),
    "ResnetBlock2D": (3.0, 3.0),
}
"""Class of a block -> tensors kept in fp32, and in half precision, where norms are fp32."""
_KEPT_BY_CHECKPOINTS = {"BasicTransformerBlock": 4.0}
"""As above; the norm and projections around it are not checkpointed. Others keep 1."""
_KEPT_BY_CLIP = 14.5
"""Of a layer of a CLIP text encoder, through which learned rows get their gradient."""
_GRADIENTS = 0.5
"""Gradients of a block under way, as a share of what the block keeps."""
_DECODED = {"AutoencoderKL": 4.0, "AutoencoderKLFlux2": 4.0, "AutoencoderKLQwenImage": 8.0}
"""Tensors of the second channel count at full size while a VAE works on a picture."""
_TRAINED_REGIONS, _RENDERED_REGIONS = 2, 3
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
    blocks = list(_blocks(denoiser, settings))
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
    work = _Work(skeleton, settings, folder, blocks)
    return MemoryNeed(
        weights=weights,
        waiting=frozenset(waits),
        adapter=_adapter(skeleton, settings),
        step=work.step(),
        batch=work.batch(),
        encoding=work.vae(16, work.side_px**2),
        decoding=work.vae(settings.generation.batch_size, work.night_pixels),
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


# --- weights -----------------------------------------------------------------


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


# --- activations -------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """A block that is passed: its class, width, and place.

    ``halvings`` of the latents' side; ``joint``: texts stand in its sequence.
    """

    kind: str
    width: int
    halvings: int
    joint: bool
    has_gradient: bool


def _blocks(denoiser: Any, settings: Settings) -> Iterator[_Block]:
    trained = settings.learning.adapter.blocks
    first = next(place for place in ("down", "mid", "up") if place in trained)
    for name, module in denoiser.named_modules():
        kind = type(module).__name__
        if kind not in _KEPT:
            continue
        if kind not in ("ResnetBlock2D", "BasicTransformerBlock"):
            config = denoiser.config
            yield _Block(
                kind, config.num_attention_heads * config.attention_head_dim, 0, True, True
            )
            continue
        place = name.split("_")[0]
        last = len(denoiser.config.block_out_channels) - 1
        number = re.match(r"(?:down|up)_blocks\.(\d+)", name)
        halvings = last if number is None else int(number[1])
        halvings = last - halvings if place == "up" else halvings
        width = (
            module.conv1.in_channels + module.conv1.out_channels
            if kind == "ResnetBlock2D"
            else module.norm1.normalized_shape[0]
        )
        gradient = ("down", "mid", "up").index(place) >= ("down", "mid", "up").index(first)
        yield _Block(kind, width, halvings, False, gradient)


class _Work:
    """Activations of a base's passes."""

    def __init__(
        self, base: BaseModel, settings: Settings, folder: Path, blocks: list[_Block]
    ) -> None:
        self._base, self._settings, self._folder = base, settings, folder
        self._blocks = blocks
        self._text_tokens = open_prompt_tokenizer(folder).length
        self.side_px = base.sample_size_px
        generation = settings.generation
        wide = generation.width * (1 + (_RENDERED_REGIONS - 2) * generation.widening)
        self.night_pixels = int(max(generation.height * wide, self.side_px**2))

    def step(self) -> int:
        """Of one training step: the photos and, with a shared slot, prior and replay."""
        learning = self._settings.learning
        rows = learning.batch_size
        if learning.adapter.slots == "shared":
            rows += learning.prior_batch_size + learning.replay_batch_size
        sizes = [
            (block, self._tokens(block, self.side_px**2, _TRAINED_REGIONS) * block.width)
            for block in self._blocks
            if block.has_gradient
        ]
        whole = [self._kept(block) * size for block, size in sizes]
        entries = sum(whole)
        if self._settings.base_model.gradient_checkpointing:
            ends = [_KEPT_BY_CHECKPOINTS.get(block.kind, 1.0) * size for block, size in sizes]
            entries = sum(ends) + max(whole)
        entries += _GRADIENTS * max(whole)
        bias = self._bias(self.side_px**2, _TRAINED_REGIONS)
        return int(rows * (entries * self._base.dtype.itemsize + bias) + self._texts(rows))

    def batch(self) -> int:
        """Of one batch of a night; both halves of a guided one at once."""
        generation = self._settings.generation
        rows = generation.batch_size * (2 if generation.guidance > 1 else 1)
        largest = max(
            self._kept(block)
            * self._tokens(block, self.night_pixels, _RENDERED_REGIONS)
            * block.width
            for block in self._blocks
        )
        bias = self._bias(self.night_pixels, _RENDERED_REGIONS)
        batch = rows * (largest * self._base.dtype.itemsize + bias)
        if generation.attention.method == "gradient":
            batch = max(batch, generation.batch_size * self._guided())
        return int(batch)

    def _guided(self) -> float:
        """Of a picture while attention guides it: half of the blocks keep all for a gradient."""
        kept = sum(
            self._kept(block)
            * self._tokens(block, self.night_pixels, _RENDERED_REGIONS)
            * block.width
            for block in self._blocks
        )
        return kept / 2 * self._base.dtype.itemsize

    def vae(self, pictures: int, pixels: int) -> int:
        """Of coding so many pictures, as many at once as are."""
        pictures = min(pictures, coded_together(pixels))
        config = self._base.parts["vae"].config
        widths = config.get("block_out_channels") or [
            config.base_dim * factor for factor in config.dim_mult
        ]
        decoded = _DECODED.get(type(self._base.parts["vae"]).__name__, max(_DECODED.values()))
        return int(pictures * pixels * decoded * widths[:2][-1] * self._base.dtype.itemsize)

    def _tokens(self, block: _Block, pixels: int, regions: int) -> float:
        places = pixels / (self._base.vae_scale_factor * 2**block.halvings) ** 2
        return places + (regions * self._text_tokens if block.joint else 0)

    def _kept(self, block: _Block) -> float:
        return _KEPT[block.kind][self._base.dtype != torch.float32]

    def _bias(self, pixels: int, regions: int) -> float:
        """A picture's bias by region in joint attention: fp32, and in the dtype."""
        if not self._blocks[0].joint:
            return 0
        tokens = self._tokens(self._blocks[0], pixels, regions)
        return tokens**2 * (4 + self._base.dtype.itemsize)

    def _texts(self, rows: int) -> float:
        """What CLIP text encoders in fp32 keep for the gradient of learned rows."""
        total = 0.0
        for part, kind in self._base.part_classes.items():
            if part.startswith("text_encoder") and part not in self._base.half_parts:
                config = json.loads((self._folder / part / "config.json").read_text("utf-8"))
                size = config["hidden_size"] * config["num_hidden_layers"] * self._text_tokens
                total += 4 * rows * _KEPT_BY_CLIP * size * issubclass(kind, nn.Module)
        return total
