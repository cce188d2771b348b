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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from transformers import PreTrainedModel

from catalog_pipeline.diffusion.acceleration import (
    checkpoint_blocks,
    compile_blocks,
    language_model_blocks,
    repeated_blocks,
)
from catalog_pipeline.diffusion.families.interchange import Interchange
from catalog_pipeline.diffusion.quantised_linear import QuantisedLinear, quantise_layers
from catalog_pipeline.diffusion.regional import RegionalContext, resize_masks
from catalog_pipeline.diffusion.residence import (
    Residence,
    reside_by_layer,
    saving_marks,
    waits_in_cpu_memory,
)
from catalog_pipeline.diffusion.routed_linear import Rows
from catalog_pipeline.diffusion.sizes import own_side_px
from catalog_pipeline.diffusion.text import TextConditioner
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import (
    AdapterSettings,
    BaseModelSettings,
    LossWeighting,
    TimestepDensity,
)

_PLAIN = BaseModelSettings()
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class BaseModel(Interchange, ABC):
    """A frozen base model on ``device``.

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
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    """Of the weights of ``half_parts``."""
    denoiser_part: ClassVar[str]
    """The part that takes deltas; also the prefix of its layers in a LoRA file."""
    solvers: ClassVar[Mapping[str, Any]]
    """Name in ``generation.yaml: sampler`` -> the diffusers scheduler class."""

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
    def trained_side_px(self) -> int:
        """The side in pixels that the denoiser was trained at."""
        return own_side_px(dict(self.denoiser.config), dict(self.parts["vae"].config))

    @property
    def sample_size_px(self) -> int:
        """The side in pixels of training views and of pictures that are compared."""
        return self.side_px or self.trained_side_px

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """``(batch, 3, height, width)`` in [-1, 1] -> latents as the denoiser sees them, fp32."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """The way back, fp32; values may leave [-1, 1] a little."""

    # --- text ----------------------------------------------------------------

    learns_rows: ClassVar[bool] = False
    """Whether a product's placeholder tokens are learned rows; else a word stands for it."""

    @abstractmethod
    def text_conditioner(self) -> TextConditioner:
        """How prompts are encoded, placeholder tokens among them; one a base model."""

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

    def position_masks(self, masks: Tensor, positions: int, rows: Rows) -> Tensor:
        """``(batch, regions, h, w)`` -> ``(batch, regions, positions)`` at a layer of ``rows``."""
        assert rows == "image"
        return resize_masks(masks, positions)

    def map_positions(self, latent_height: int, latent_width: int) -> int:
        """Attention layers of more positions than this show an observer edges, not objects.

        Half the latents' side, 16 x 16 of 32 x 32. Attend-and-Excite (arXiv:2301.13826) reads
        16 x 16 of 64 x 64 latents, a quarter of the side; there this takes 32 x 32 in as well.
        """
        return (latent_height * latent_width) // 4

    @property
    @abstractmethod
    def probe_end(self) -> nn.Module:
        """The module before which a pass may end that serves an attention observer alone."""

    # --- training ------------------------------------------------------------

    def draw_timesteps(
        self, count: int, generator: torch.Generator, density: TimestepDensity = "uniform"
    ) -> Tensor:
        """``(count,)`` timesteps of training, drawn on the CPU: stratified, of ``density``.

        One from each of ``count`` equally likely parts of the schedule, in random order: every
        batch covers high and low noise levels, so its loss varies less than with
        independent draws (compare section I.1 of arXiv:2107.00630).
        """
        shares = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        shares = shares_of_density(shares, density)
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

    def loss_weights(self, timesteps: Tensor, weighting: LossWeighting) -> Tensor:
        """``(batch,)`` factors of the loss at ``timesteps`` ``(batch,)``.

        Raises:
            ConfigurationError: this family has no such weighting.
        """
        if weighting != "none":
            raise ConfigurationError(
                f"learning.yaml: loss_weighting is {weighting}, which is of flow matching; "
                f"expected none with {self.title}"
            )
        return torch.ones_like(timesteps, dtype=torch.float32)

    # --- sampling ------------------------------------------------------------

    def guide(self, unconditional: Tensor, conditional: Tensor, guidance: float) -> Tensor:
        """Classifier-free guidance, arXiv:2207.12598: ``e(n) + w (e(c) - e(n))``."""
        return unconditional + guidance * (conditional - unconditional)

    def make_scheduler(self, sampler: str, steps: int, height_px: int, width_px: int) -> Any:
        """The solver ``sampler`` with its timesteps set.

        Raises:
            ValueError: this family has no such solver.
        """
        del height_px, width_px  # of use to families whose noise depends on the size
        self._check_sampler(sampler)
        scheduler = self.solvers[sampler].from_config(self.scheduler_config)
        scheduler.set_timesteps(steps)
        return scheduler

    def _check_sampler(self, sampler: str) -> None:
        if sampler not in self.solvers:
            raise ValueError(
                f"unknown sampler {sampler!r}; {self.title} has {', '.join(sorted(self.solvers))}"
            )

    # --- export and import ---------------------------------------------------

    def inversion_state_dict(self, token: str, rows: Tensor) -> dict[str, Tensor]:
        """What ``load_textual_inversion`` reads for ``token``; ``rows`` is ``(tokens, width)``."""
        raise ValueError(f"{self.title} learns no rows for {token}, got {len(rows)}")

    def inversion_code(self, file: str, token: str) -> str:
        """The line of Python that loads ``file`` with ``token`` into ``pipe``."""
        del token  # of use where one file serves several text encoders
        return f'pipe.load_textual_inversion("{file}")'

    def add_tokens(self, rows: Mapping[str, Tensor]) -> None:
        """Add ``token -> row (width,)`` to vocabularies and token tables, in place.

        Raises:
            ValueError: a token is in a vocabulary already, or this family learns no rows.
        """
        if rows:
            raise ValueError(f"{self.title} learns no rows, got those of {', '.join(rows)}")

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

    pipeline_options: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of the pipeline class."""


def shares_of_density(shares: Tensor, density: TimestepDensity) -> Tensor:
    """``shares`` in [0, 1], uniform -> shares of the schedule of ``density``, order kept.

    Those of Stable Diffusion 3, section 3.1 of arXiv:2403.03206, with mean 0, deviation 1 and
    scale 1.29, written as inverse distribution functions::

        logit_normal:  sigmoid(Phi^-1(u))
        mode:          u + 1.29 (u - sin^2(pi u / 2))
    """
    if density == "logit_normal":
        return torch.special.ndtri(shares.double()).sigmoid().float()
    if density == "mode":
        return shares + 1.29 * (shares - torch.sin(torch.pi * shares / 2) ** 2)
    return shares


def _open_part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    options: dict[str, Any] = {}
    if issubclass(kind, ModelMixin):
        options = {"torch_dtype": dtype, "use_safetensors": True}
    elif issubclass(kind, PreTrainedModel):
        options = {"dtype": dtype, "use_safetensors": True}
    return kind.from_pretrained(folder, local_files_only=True, **options)
