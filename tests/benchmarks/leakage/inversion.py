"""Pictures whose features are those of a memory: what somebody who has stolen it could do.

Whoever has a memory has the encoder too, since its weights are public. A picture is changed by
gradient descent until its feature is the stored one: either its pixels, from coarse to fine, or a
latent of the base's autoencoder, which knows what pictures look like (compare Mahendran and
Vedaldi, arXiv:1412.0035; Dosovitskiy and Brox, arXiv:1506.02753).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.evaluation.features import (
    _IMAGENET_MEAN,
    _IMAGENET_STD,
    INPUT_PX,
    PooledEncoder,
)
from catalog_pipeline.records import Features, Pixels
from tests.benchmarks.leakage.likeness import SIDE_PX

_SIDES = (4, 8, 16, 32, 64, 128)
_RATE = 0.05
_SMOOTHNESS = 4.0
"""Weight of the total variation of pixels."""
_GREYNESS = 0.03
"""Weight of the mean square of pixels before they are squeezed into [0, 1]: 0 is grey."""
_PRIOR = 0.4
"""Weight of the mean square of latents, which have unit variance."""
_JITTER_PX = 6


class Inverter:
    """Turns features of the memory's encoder back into pictures."""

    def __init__(self, encoder: PooledEncoder, engine: DiffusionEngine) -> None:
        self._network, self._engine = encoder._network, engine
        self._centre = torch.from_numpy(encoder._centre)
        self._mean = torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1)
        self._std = torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1)

    def features(self, images: Tensor) -> Tensor:
        """``(images, 3, side, side)`` in [0, 1] -> unit rows, as the encoder gives them."""
        large = functional.interpolate(images, (INPUT_PX, INPUT_PX), mode="bicubic")
        pooled = self._network((large - self._mean) / self._std) - self._centre
        return functional.normalize(pooled, dim=1)

    def from_pixels(
        self, wanted: Features, steps: int, seed: int
    ) -> tuple[list[Pixels], list[float]]:
        """A picture for each row of ``wanted``, and the cosine that it reaches."""
        generator = torch.Generator().manual_seed(seed)
        layers = [
            (0.02 * torch.randn(len(wanted), 3, side, side, generator=generator)).requires_grad_()
            for side in _SIDES
        ]

        def draw() -> Tensor:
            sizes = (SIDE_PX, SIDE_PX)
            grown = [functional.interpolate(layer, sizes, mode="bilinear") for layer in layers]
            return torch.sigmoid(torch.stack(grown).sum(0))

        def unlikeliness(images: Tensor) -> Tensor:
            across, down = images.diff(dim=3).abs().mean(), images.diff(dim=2).abs().mean()
            strong = torch.logit(images, eps=1e-4).square().mean()
            return _SMOOTHNESS * (across + down) + _GREYNESS * strong

        return self._descend(wanted, layers, draw, unlikeliness, steps, generator)

    def from_latents(
        self, wanted: Features, steps: int, seed: int, start: Tensor | None = None
    ) -> tuple[list[Pixels], list[float]]:
        """The same by latents of the base, from noise or from ``start``."""
        generator = torch.Generator().manual_seed(seed)
        base = self._engine.base
        side = SIDE_PX // base.vae_scale_factor
        shape = (len(wanted), base.latent_channels, side, side)
        first = 0.5 * torch.randn(shape, generator=generator) if start is None else start.clone()
        latents = first.requires_grad_()

        def draw() -> Tensor:
            return (base.decode(latents) / 2 + 0.5).clamp(0, 1)

        def unlikeliness(_: Tensor) -> Tensor:
            return _PRIOR * latents.square().mean()

        return self._descend(wanted, [latents], draw, unlikeliness, steps, generator)

    def _descend(
        self,
        wanted: Features,
        parameters: list[Tensor],
        draw: Callable[[], Tensor],
        penalty: Callable[[Tensor], Tensor],
        steps: int,
        generator: torch.Generator,
    ) -> tuple[list[Pixels], list[float]]:
        target = torch.from_numpy(wanted)
        optimizer = torch.optim.Adam(parameters, lr=_RATE)
        for _ in range(steps):
            images = draw()
            # Pooled features hardly know a place: a picture that must fit at several is smoother.
            shift = torch.randint(-_JITTER_PX, _JITTER_PX + 1, (2,), generator=generator).tolist()
            found = self.features(images.roll(shift, (2, 3)))
            loss = (1 - (found * target).sum(1)).sum() + len(target) * penalty(images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            images = draw()
            reached = (self.features(images) * target).sum(1)
        pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
        return [np.ascontiguousarray(picture) for picture in pixels], reached.tolist()
