"""Scenes of zero to three sprites on a background, drawn in torch by the batch, with captions.

The same pictures as :func:`catalog_pipeline.studio.scenes.compose` paints one
by one, which also gives masks; here only pixels are needed, by the hundred thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from catalog_pipeline.base_model.training.corpus import Corpus
from catalog_pipeline.base_model.training.presets import CorpusSettings
from catalog_pipeline.studio.scenes import SHADOW_STRENGTH, draw_placements

MAX_PRODUCTS = 3
_SHADOW_WIDTH, _SHADOW_HEIGHT, _SHADOW_DROP = 0.42, 0.09, 0.01
_BRIGHTNESS_STD = 0.08


@dataclass(frozen=True)
class ScenePlan:
    """A batch of scenes before they are drawn; products stand left to right.

    sprites      ``(b, 3)`` index into the corpus, -1 = nobody
    placements   ``(b, 3, 4)`` side, centre x, base y (fractions of the image), mirrored 0/1
    backgrounds  ``(b,)`` index into the corpus
    """

    sprites: npt.NDArray[np.int64]
    placements: npt.NDArray[np.float32]
    backgrounds: npt.NDArray[np.int64]
    captions: tuple[str, ...]


def plan_scenes(
    corpus: Corpus, count: int, settings: CorpusSettings, rng: np.random.Generator
) -> ScenePlan:
    """Draw ``count`` scenes: how many products, which, where, on what, and how it is said."""
    sprites = np.full((count, MAX_PRODUCTS), -1, np.int64)
    placements = np.zeros((count, MAX_PRODUCTS, 4), np.float32)
    backgrounds = rng.integers(len(corpus.backgrounds), size=count)
    captions = []
    for scene in range(count):
        products = int(rng.choice(MAX_PRODUCTS + 1, p=settings.product_count_weights))
        chosen = [corpus.pick_sprite(settings.emoji_share, rng) for _ in range(products)]
        sprites[scene, :products] = chosen
        for place, p in enumerate(draw_placements(rng, products)):
            placements[scene, place] = (p.size, p.center_x, p.base_y, p.flipped)
        captions.append(corpus.scene_caption(chosen, int(backgrounds[scene]), rng))
    return ScenePlan(sprites, placements, backgrounds, tuple(captions))


def draw_scenes(plan: ScenePlan, corpus: Corpus, generator: torch.Generator) -> Tensor:
    """Pictures ``(b, 3, px, px)`` in -1..1 on the corpus's device.

    ``generator`` (of that device) mirrors half of the backgrounds and varies the
    exposure by a normal factor; all else is in the plan.
    """
    device = corpus.device
    images = corpus.backgrounds[torch.as_tensor(plan.backgrounds, device=device)].float() / 255
    images = _mirror_half(images, generator)
    indices = torch.as_tensor(plan.sprites, device=device)
    placements = torch.as_tensor(plan.placements, device=device)
    for place in range(MAX_PRODUCTS):
        present = indices[:, place] >= 0
        if not bool(present.any()):
            continue
        images[present] = place_sprites(
            images[present],
            corpus.sprites[indices[present, place]].float() / 255,
            placements[present, place],
        )
    exposure = 1 + _BRIGHTNESS_STD * torch.randn(
        len(images), 1, 1, 1, device=device, generator=generator
    )
    return (images * exposure).clamp(0, 1) * 2 - 1


def place_sprites(images: Tensor, sprites: Tensor, placements: Tensor) -> Tensor:
    """Draw a sprite and its contact shadow over each image.

    Args:
        images: ``(b, 3, px, px)``, 0..1.
        sprites: ``(b, 4, s, s)``, straight alpha, 0..1.
        placements: ``(b, 4)``, columns as in :class:`ScenePlan`.
    """
    pixels = images.shape[-1]
    axis = (torch.arange(pixels, device=images.device) + 0.5) / pixels
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    side, center, base, mirrored = (column[:, None, None] for column in placements.unbind(1))
    across = (x - center) / (side * _SHADOW_WIDTH)  # (b, px, px)
    down = (y - base + _SHADOW_DROP) / (side * _SHADOW_HEIGHT)
    shadow = torch.exp(-(across**2 + down**2)) * SHADOW_STRENGTH
    images = images * (1 - shadow[:, None])
    u = (x - center) / side * 2
    v = (y - (base - side / 2)) / side * 2
    u = torch.where(mirrored > 0.5, -u, u)
    # Premultiplied alpha: transparent pixels must not tint the silhouette's rim.
    premultiplied = torch.cat([sprites[:, :3] * sprites[:, 3:], sprites[:, 3:]], 1)
    drawn = F.grid_sample(
        premultiplied,
        torch.stack([u, v], -1),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return images * (1 - drawn[:, 3:]) + drawn[:, :3]


def draw_photos(
    indices: Sequence[int] | npt.NDArray[np.int64], corpus: Corpus, generator: torch.Generator
) -> Tensor:
    """Random crops, half of them mirrored, of the photos: ``(b, 3, px, px)`` in -1..1."""
    photos = corpus.photos[torch.as_tensor(np.asarray(indices), device=corpus.device)]
    pixels = corpus.backgrounds.shape[-1]
    slack = photos.shape[-1] - pixels + 1
    top, left = (
        int(v) for v in torch.randint(0, slack, (2,), device=corpus.device, generator=generator)
    )
    crops = photos[:, :, top : top + pixels, left : left + pixels].float() / 255
    return _mirror_half(crops, generator) * 2 - 1


def _mirror_half(images: Tensor, generator: torch.Generator) -> Tensor:
    chance = torch.rand(len(images), 1, 1, 1, device=images.device, generator=generator)
    return torch.where(chance < 0.5, images.flip(-1), images)
