"""The cached latents that one task trains on: every view is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.augmentation import Backdrop, View, make_views
from catalog_pipeline.records import Photo


@dataclass(frozen=True)
class TrainingPool:
    """Encoded views; the first axis is the view.

    Attributes:
        latents: ``(views, channels, h, w)``, scaled.
        weights: ``(views, 1, h, w)`` loss weights.
        regions: ``(views, 1, h, w)`` where the concept's slot acts.
        instance_prompts: with ``{concept}``; ``backdrop_prompts``: ``None`` for whole-image views.
        whole: indices of whole-image views; ``split``: of those with a backdrop region.
    """

    latents: Tensor
    weights: Tensor
    regions: Tensor
    instance_prompts: tuple[str, ...]
    backdrop_prompts: tuple[str | None, ...]
    whole: Tensor
    split: Tensor

    def group(self, step: int, every: int = 5) -> Tensor:
        """Indices that step may draw from: every fifth step trains on split views, if any.

        Steps do not mix the two, since a single region costs less than two.
        """
        if len(self.split) and (step % every == every - 1 or not len(self.whole)):
            return self.split
        return self.whole


def training_pool(
    engine: DiffusionEngine,
    photos: Sequence[Photo],
    backdrops: Sequence[Backdrop],
    seed: int,
    views_per_photo: int,
) -> TrainingPool:
    """The encoded views of ``photos``; the same arguments give the same pool."""
    views = make_views(
        photos,
        backdrops,
        side_px=engine.base.sample_size_px,
        views_per_photo=views_per_photo,
        rng=np.random.default_rng(seed),
    )
    return encode_views(engine, views)


def encode_views(engine: DiffusionEngine, views: Sequence[View]) -> TrainingPool:
    """Run the VAE over ``views`` once and bring their masks to latent size."""
    latents = engine.encode_images([view.pixels for view in views])
    size = (int(latents.shape[2]), int(latents.shape[3]))
    split = [i for i, view in enumerate(views) if view.backdrop_prompt is not None]
    whole = [i for i, view in enumerate(views) if view.backdrop_prompt is None]
    return TrainingPool(
        latents=latents,
        weights=_shrink([view.weight for view in views], size).to(latents.device),
        regions=_shrink([view.region for view in views], size).to(latents.device),
        instance_prompts=tuple(view.instance_prompt for view in views),
        backdrop_prompts=tuple(view.backdrop_prompt for view in views),
        whole=torch.tensor(whole, dtype=torch.long),
        split=torch.tensor(split, dtype=torch.long),
    )


def _shrink(planes: Sequence[npt.NDArray[np.float32]], size: tuple[int, int]) -> Tensor:
    stacked = torch.from_numpy(np.stack(planes))[:, None]  # (views, 1, side, side)
    return torch.nn.functional.interpolate(stacked, size, mode="area")
