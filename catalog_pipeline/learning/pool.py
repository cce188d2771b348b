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
from catalog_pipeline.learning.buckets import aspect_buckets
from catalog_pipeline.records import Photo


@dataclass(frozen=True)
class SizedViews:
    """Encoded views of one size; the first axis is the view.

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

    def __len__(self) -> int:
        return len(self.instance_prompts)


@dataclass(frozen=True)
class TrainingPool:
    """The encoded views of a subject: one stack a size, each with at least one view."""

    sizes: tuple[SizedViews, ...]

    def __len__(self) -> int:
        return sum(map(len, self.sizes))

    def group(
        self, step: int, generator: torch.Generator, every: int = 5
    ) -> tuple[SizedViews, Tensor]:
        """Views of one size, and the indices of those that step may draw from.

        Every fifth step trains on split views, if any. Steps do not mix the two, since a
        single region costs less than two; and none mixes sizes, since a batch is one tensor.
        Of several sizes one is drawn, as often as it has views; of one, nothing is drawn.
        """
        split = [(views, views.split) for views in self.sizes if len(views.split)]
        whole = [(views, views.whole) for views in self.sizes if len(views.whole)]
        groups = split if split and (step % every == every - 1 or not whole) else whole
        if len(groups) == 1:
            return groups[0]
        counts = torch.tensor([len(rows) for _, rows in groups])
        drawn = torch.randint(int(counts.sum()), (1,), generator=generator)
        return groups[int(torch.searchsorted(counts.cumsum(0), drawn, right=True))]

    def view(self, index: int) -> tuple[SizedViews, Tensor]:
        """View ``index`` of all, size after size: its stack, and its place there ``(1,)``."""
        for views in self.sizes:
            if index < len(views):
                return views, torch.tensor([index])
            index -= len(views)
        raise IndexError(f"a pool of {len(self)} views has no view {index + len(self)}")


def training_pool(
    engine: DiffusionEngine,
    photos: Sequence[Photo],
    backdrops: Sequence[Backdrop],
    seed: int,
    views_per_photo: int,
    *,
    oblong: bool = False,
) -> TrainingPool:
    """The encoded views of ``photos``; the same arguments give the same pool.

    With ``oblong`` framed views have the shapes of their photos (:mod:`.buckets`).
    """
    side, step = engine.base.sample_size_px, engine.base.size_step_px
    views = make_views(
        photos,
        backdrops,
        side_px=side,
        views_per_photo=views_per_photo,
        rng=np.random.default_rng(seed),
        buckets=aspect_buckets(side, step) if oblong else (),
    )
    return encode_views(engine, views)


def encode_views(engine: DiffusionEngine, views: Sequence[View]) -> TrainingPool:
    """Run the VAE over ``views`` once and bring their masks to latent size."""
    alike: dict[tuple[int, ...], list[View]] = {}
    for view in views:
        alike.setdefault(view.pixels.shape, []).append(view)
    return TrainingPool(tuple(_encode_alike(engine, same) for same in alike.values()))


def _encode_alike(engine: DiffusionEngine, views: Sequence[View]) -> SizedViews:
    latents = engine.encode_images([view.pixels for view in views])
    size = (int(latents.shape[2]), int(latents.shape[3]))
    split = [i for i, view in enumerate(views) if view.backdrop_prompt is not None]
    whole = [i for i, view in enumerate(views) if view.backdrop_prompt is None]
    return SizedViews(
        latents=latents,
        weights=_shrink([view.weight for view in views], size).to(latents.device),
        regions=_shrink([view.region for view in views], size).to(latents.device),
        instance_prompts=tuple(view.instance_prompt for view in views),
        backdrop_prompts=tuple(view.backdrop_prompt for view in views),
        whole=torch.tensor(whole, dtype=torch.long),
        split=torch.tensor(split, dtype=torch.long),
    )


def _shrink(planes: Sequence[npt.NDArray[np.float32]], size: tuple[int, int]) -> Tensor:
    stacked = torch.from_numpy(np.stack(planes))[:, None]  # (views, 1, height, width)
    return torch.nn.functional.interpolate(stacked, size, mode="area")
