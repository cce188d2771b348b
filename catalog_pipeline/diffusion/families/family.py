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
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.families.interchange import Interchange
from catalog_pipeline.diffusion.families.opened_model import OpenedModel
from catalog_pipeline.diffusion.regional import resize_masks
from catalog_pipeline.diffusion.routed_linear import Rows
from catalog_pipeline.diffusion.sizes import own_side_px
from catalog_pipeline.diffusion.text import TextConditioner
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import AdapterSettings, LossWeighting, TimestepDensity


class BaseModel(OpenedModel, Interchange, ABC):
    """A frozen base model, and all that its family does in its own way."""

    # --- pictures and latents ------------------------------------------------

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.denoiser.config.in_channels)

    @property
    def vae_scale_factor(self) -> int:
        """Image pixels per latent pixel along one side: two for every level of the VAE but one."""
        return int(2 ** (len(self.parts["vae"].config.block_out_channels) - 1))

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

    solvers: ClassVar[Mapping[str, Any]]
    """Name in ``generation.yaml: sampler`` -> the diffusers scheduler class."""

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
