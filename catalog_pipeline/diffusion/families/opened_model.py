"""The parts of a base model: opened from a folder onto a device, kept there, and saved again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import ModelMixin
from torch import nn
from transformers import PreTrainedModel

from catalog_pipeline.diffusion.acceleration import (
    checkpoint_blocks,
    compile_blocks,
    language_model_blocks,
    repeated_blocks,
)
from catalog_pipeline.diffusion.quantised_linear import QuantisedLinear, quantise_layers
from catalog_pipeline.diffusion.regional import RegionalContext
from catalog_pipeline.diffusion.residence import (
    Residence,
    reside_by_layer,
    saving_marks,
    waits_in_cpu_memory,
)
from catalog_pipeline.settings import BaseModelSettings

_PLAIN = BaseModelSettings()
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """The parts of a frozen base model, and where they lie.

    Attributes:
        parts: sub-folder -> the opened model, tokenizer or scheduler.
        content_hash: SHA-256 over the names and bytes of the model's files: it changes
            when any weight or config changes, wherever the folder lies.
        dtype: of the denoiser and the VAE.
        side_px: the side of training views and of pictures that are compared; ``None``
            for the one that the denoiser was trained at.
        regions: what the attention processors read during a forward pass.
        residences: of the parts that wait in CPU memory; of the denoiser, one a layer.
    """

    parts: Mapping[str, Any]
    content_hash: str
    device: torch.device
    dtype: torch.dtype
    side_px: int | None = None
    regions: RegionalContext = field(default_factory=RegionalContext)
    residences: Mapping[str, Sequence[Residence]] = field(default_factory=dict)

    title: ClassVar[str]
    """The family's name, for messages."""
    pipelines: ClassVar[tuple[str, ...]]
    """``_class_name`` of the folders that it opens; exports are of the first."""
    part_classes: ClassVar[Mapping[str, type]]
    """Sub-folder -> the diffusers or transformers class of its content."""
    half_parts: ClassVar[tuple[str, ...]]
    """Parts that compute in ``dtype``. The others stay fp32, as a text encoder does through
    which the gradient of new tokens runs."""
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    """Of the weights of ``half_parts``."""
    denoiser_part: ClassVar[str]
    """The part that takes deltas; also the prefix of its layers in a LoRA file."""
    pipeline_options: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of the first of :attr:`pipelines` when it is made to be saved."""

    @classmethod
    def find_misfit(cls, configs: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Why a folder with these ``config.json`` (by part) is not of this family, if so.

        ``configs["model_index"]`` is ``model_index.json``, empty where a folder has none.
        """
        del configs
        return None

    @classmethod
    def open(
        cls,
        folder: Path,
        content_hash: str,
        device: torch.device,
        dtype: torch.dtype,
        settings: BaseModelSettings = _PLAIN,
    ) -> Self:
        """Open every part from local safetensors files, frozen; ``settings`` say where it lies.

        Raises:
            ConfigurationError: ``settings.quantise`` needs a package that is not there.
        """
        parts: dict[str, Any] = {}
        residences: dict[str, list[Residence]] = {}
        for name, kind in cls.part_classes.items():
            half = name in cls.half_parts
            part = _open_part(kind, folder / name, dtype if half else torch.float32)
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
                if half and name != "vae" and settings.quantise != "none":
                    denoises = name == cls.denoiser_part
                    blocks = repeated_blocks(part) if denoises else language_model_blocks(part)
                    quantise_layers(part, settings.quantise, device, blocks)
                waits = waits_in_cpu_memory(name, settings.offload, cls.denoiser_part)
                # torch's own method: diffusers' wrapper warns about a list that is empty here.
                layout = {"memory_format": cls.memory_format} if half else {}
                nn.Module.to(part, _CPU if waits else device, **layout)  # type: ignore[call-overload]
                if waits and name == cls.denoiser_part:
                    residences[name] = reside_by_layer(part, device)
                elif waits:
                    residences[name] = [Residence(part.modules(), device)]
            parts[name] = part
        base = cls(parts, content_hash, device, dtype, settings.side_px, residences=residences)
        if settings.gradient_checkpointing:
            checkpoint_blocks(base.denoiser, base.regions)
        if settings.compile:
            compile_blocks(base.denoiser)
        return base

    @property
    def weights_are_at_hand(self) -> bool:
        """Whether the denoiser's weights lie on the device as they were opened."""
        quantised = any(isinstance(m, QuantisedLinear) for m in self.denoiser.modules())
        return not quantised and self.denoiser_part not in self.residences

    @contextmanager
    def on_device(self, *parts: str) -> Iterator[None]:
        """Those of ``parts`` that wait in CPU memory are on the device inside the block."""
        with ExitStack() as stack:
            for residence in (r for part in parts for r in self.residences.get(part, ())):
                stack.enter_context(residence.on_device())
            yield

    def reading_texts(self) -> AbstractContextManager[None]:
        """The text encoders are on the device inside the block."""
        return self.on_device(*(part for part in self.parts if part.startswith("text_encoder")))

    def saving_marks(self) -> AbstractContextManager[Any]:
        """A pass of the denoiser inside the block keeps none of its weights on the device."""
        residences = self.residences.get(self.denoiser_part)
        return saving_marks(residences) if residences else nullcontext()

    @property
    def denoiser(self) -> Any:
        """The network that takes deltas."""
        return self.parts[self.denoiser_part]

    @property
    def scheduler_config(self) -> Any:
        """``scheduler_config.json``."""
        return self.parts["scheduler"].config

    def save_pipeline(self, scheduler: Any, folder: Path) -> None:
        """Write a folder for ``from_pretrained`` of the first of :attr:`pipelines`."""
        import diffusers

        for name in self.half_parts:
            if isinstance(self.parts[name], nn.Module):
                nn.Module.to(self.parts[name], memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        pipeline = getattr(diffusers, self.pipelines[0])
        pipeline(**{**self.parts, "scheduler": scheduler}, **self.pipeline_options).save_pretrained(
            folder, safe_serialization=True
        )


def _open_part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    options: dict[str, Any] = {}
    if issubclass(kind, ModelMixin):
        options = {"torch_dtype": dtype, "use_safetensors": True}
    elif issubclass(kind, PreTrainedModel):
        options = {"dtype": dtype, "use_safetensors": True}
    return kind.from_pretrained(folder, local_files_only=True, **options)
