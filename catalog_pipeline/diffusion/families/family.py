"""The door for base models: all that differs between families, in one class.

The adapter, the sampling loop, the learning, the generation and the export know a base by
:class:`BaseModel` alone. A family is a subclass in a file of its own.

Shapes: latents are ``(batch, channels, h, w)`` everywhere outside a family; one that packs
them into a sequence does so in :meth:`BaseModel.predict`. A text is one tensor ``(tokens,
width)``; where the denoiser reads more than a sequence of tokens (the pooled text of SDXL),
:meth:`BaseModel.text_conditioner` appends it as rows, and :meth:`BaseModel.predict` takes
them off again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from transformers import PreTrainedModel

from catalog_pipeline.diffusion.regional import RegionalContext, resize_masks
from catalog_pipeline.diffusion.text import TextConditioner
from catalog_pipeline.settings import AdapterSettings

Rows = Literal["image", "text"]
"""What a row of a layer's input is: an image, or the text of one region."""


@dataclass(frozen=True, eq=False)
class BaseModel(ABC):
    """A frozen base model on ``device``.

    Attributes:
        parts: sub-folder -> the opened model, tokenizer or scheduler.
        content_hash: SHA-256 over the names and bytes of the model's files: it changes
            when any weight or config changes, wherever the folder lies.
        dtype: of the denoiser and the VAE.
        regions: what the attention processors read during a forward pass.
    """

    parts: Mapping[str, Any]
    content_hash: str
    device: torch.device
    dtype: torch.dtype
    regions: RegionalContext = field(default_factory=RegionalContext)

    # --- the folder ----------------------------------------------------------

    title: ClassVar[str]
    """The family's name, for messages."""
    pipelines: ClassVar[tuple[str, ...]]
    """``_class_name`` of the folders that it opens; exports are of the first."""
    part_classes: ClassVar[Mapping[str, type]]
    """Sub-folder -> the diffusers or transformers class of its content."""
    half_parts: ClassVar[tuple[str, ...]]
    """Parts that compute in ``dtype``. The others stay fp32, as a text encoder does through
    which the gradient of new tokens runs."""
    denoiser_part: ClassVar[str]
    """The part that takes deltas; also the prefix of its layers in a LoRA file."""
    solvers: ClassVar[Mapping[str, Any]]
    """Name in ``generation.yaml: sampler`` -> the diffusers scheduler class."""

    @classmethod
    def find_misfit(cls, configs: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Why a folder with these ``config.json`` (by part) is not of this family, if so."""
        del configs
        return None

    @classmethod
    def open(
        cls, folder: Path, content_hash: str, device: torch.device, dtype: torch.dtype
    ) -> Self:
        """Open every part from local safetensors files, frozen."""
        parts = {name: _open_part(kind, folder / name) for name, kind in cls.part_classes.items()}
        for part in parts.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval().to(device)
        for name in cls.half_parts:
            # torch's own method: diffusers' wrapper warns about a list that is empty here.
            nn.Module.to(parts[name], dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(parts, content_hash, device, dtype)

    @property
    def denoiser(self) -> Any:
        """The network that takes deltas."""
        return self.parts[self.denoiser_part]

    @property
    def scheduler_config(self) -> Any:
        """``scheduler_config.json``."""
        return self.parts["scheduler"].config

    # --- pictures and latents ------------------------------------------------

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """Channels of the latents."""

    @property
    @abstractmethod
    def vae_scale_factor(self) -> int:
        """Image pixels per latent pixel along one side."""

    @property
    def size_step_px(self) -> int:
        """Sides of a picture must be multiples of it: whole latents, and whole patches of them.

        A UNet needs no more: its decoder takes the sizes of its encoder's levels, rounded up.
        """
        return self.vae_scale_factor

    @property
    @abstractmethod
    def sample_size_px(self) -> int:
        """The side in pixels that the denoiser was trained at."""

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """``(batch, 3, height, width)`` in [-1, 1] -> latents as the denoiser sees them, fp32."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """The way back, fp32; values may leave [-1, 1] a little."""

    # --- text ----------------------------------------------------------------

    @abstractmethod
    def text_conditioner(self) -> TextConditioner:
        """Installs placeholder tokens in the text encoders; one a base model."""

    # --- the denoiser --------------------------------------------------------

    @abstractmethod
    def delta_layers(self, settings: AdapterSettings) -> dict[str, Rows]:
        """The linear layers of the denoiser that can take deltas, by path, in a fixed order."""

    def trained_layers(self, settings: AdapterSettings) -> list[str]:
        """Those of :meth:`delta_layers` in which a new slot has its deltas."""
        return list(self.delta_layers(settings))

    @abstractmethod
    def install_attention(self, settings: AdapterSettings) -> None:
        """Give the attention layers processors that read :attr:`regions`."""

    @abstractmethod
    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        encoder_hidden_states: Tensor,
        masks: Tensor | None,
    ) -> Tensor:
        """The denoiser's prediction, fp32, of the shape of ``noisy_latents``.

        Args:
            noisy_latents: ``(batch, channels, h, w)``.
            timesteps: ``(batch,)`` as :meth:`draw_timesteps` and the solvers give them.
            encoder_hidden_states: ``(batch, regions, tokens, width)``, a text a region.
            masks: ``(batch, regions, H, W)``, 1 together at each pixel; ``None`` for one region.
        """

    def position_masks(self, masks: Tensor, positions: int) -> Tensor:
        """``(batch, regions, h, w)`` -> ``(batch, regions, positions)`` at an "image" layer."""
        return resize_masks(masks, positions)

    @property
    @abstractmethod
    def probe_end(self) -> nn.Module:
        """The module before which a pass may end that serves an attention observer alone."""

    # --- training ------------------------------------------------------------

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """``(count,)`` timesteps of training, drawn on the CPU: uniform and stratified.

        One from each of ``count`` equal parts of the schedule, in random order: every batch
        covers high and low noise levels, so its loss varies less than with
        independent draws (compare section I.1 of arXiv:2107.00630).
        """
        shares = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        return self.timesteps_at(shares[torch.randperm(count, generator=generator)])

    def timesteps_at(self, shares: Tensor) -> Tensor:
        """Timesteps at ``shares`` of the schedule, ``(batch,)`` in [0, 1], 0 being no noise."""
        steps = self.scheduler_config["num_train_timesteps"]
        return (shares * steps).long().clamp(max=steps - 1)

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """``noisy_latents`` at ``timesteps`` ``(batch,)``; all else ``(batch, channels, h, w)``."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What :meth:`predict` should give for :meth:`add_noise` of the same arguments."""

    # --- sampling ------------------------------------------------------------

    def make_scheduler(self, sampler: str, steps: int, height_px: int, width_px: int) -> Any:
        """The solver ``sampler`` with its timesteps set.

        Raises:
            ValueError: this family has no such solver.
        """
        del height_px, width_px  # of use to families whose noise depends on the size
        if sampler not in self.solvers:
            raise ValueError(
                f"unknown sampler {sampler!r}; {self.title} has {', '.join(sorted(self.solvers))}"
            )
        scheduler = self.solvers[sampler].from_config(self.scheduler_config)
        scheduler.set_timesteps(steps)
        return scheduler

    # --- export --------------------------------------------------------------

    @abstractmethod
    def inversion_state_dict(self, token: str, rows: Tensor) -> dict[str, Tensor]:
        """What ``load_textual_inversion`` reads for ``token``; ``rows`` is ``(tokens, width)``."""

    def inversion_code(self, file: str, token: str) -> str:
        """The line of Python that loads ``file`` with ``token`` into ``pipe``."""
        del token  # of use where one file serves several text encoders
        return f'pipe.load_textual_inversion("{file}")'

    @abstractmethod
    def add_tokens(self, rows: Mapping[str, Tensor]) -> None:
        """Add ``token -> row (width,)`` to vocabularies and token tables, in place.

        Raises:
            ValueError: a token is in a vocabulary already.
        """

    def save_pipeline(self, scheduler: Any, folder: Path) -> None:
        """Write a folder for ``from_pretrained`` of the first of :attr:`pipelines`."""
        import diffusers

        for name in self.half_parts:
            nn.Module.to(self.parts[name], memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        pipeline = getattr(diffusers, self.pipelines[0])
        pipeline(**{**self.parts, "scheduler": scheduler}, **self.pipeline_options).save_pretrained(
            folder, safe_serialization=True
        )

    pipeline_options: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of the pipeline class."""


def _open_part(kind: Any, folder: Path) -> Any:
    if issubclass(kind, ModelMixin):
        options = {"torch_dtype": torch.float32, "use_safetensors": True}
    elif issubclass(kind, PreTrainedModel):
        options = {"dtype": torch.float32, "use_safetensors": True}
    else:
        options = {}
    return kind.from_pretrained(folder, local_files_only=True, **options)
