"""What scenes are made of: sprites, backgrounds and photos, as tensors with their words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from catalog_pipeline.base_model.training.checkpoint import load_tensors, save_tensors
from catalog_pipeline.base_model.training.emoji import Emoji, list_emoji
from catalog_pipeline.base_model.training.photos import PhotoFile, list_photos
from catalog_pipeline.base_model.training.presets import CorpusSettings
from catalog_pipeline.base_model.training.training_log import TrainingLog
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.studio.backgrounds import BACKGROUNDS, paint_background
from catalog_pipeline.studio.captions import caption, with_article
from catalog_pipeline.studio.families import FAMILIES
from catalog_pipeline.studio.sprites import (
    SpriteLabel,
    product_sprites,
    stand_in_square,
)

_PHOTO_SLACK = 17 / 16
_SEEDS_A_KIND = 1_000

Bytes8 = npt.NDArray[np.uint8]
_Job = TypeVar("_Job")


@dataclass(frozen=True)
class Corpus:
    """Everything a scene can show. All tensors are uint8 on one device.

    sprites      ``(n, 4, s, s)`` straight alpha, standing on the lower edge
    backgrounds  ``(m, 3, px, px)``
    photos       ``(k, 3, q, q)`` with ``q`` a little over ``px``, for random crops
    """

    sprites: Tensor
    labels: tuple[SpriteLabel, ...]
    backgrounds: Tensor
    background_phrases: tuple[str, ...]
    photos: Tensor
    photo_nouns: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.sprites.device

    def to(self, device: torch.device) -> Corpus:
        """The same corpus on ``device``."""
        return Corpus(
            self.sprites.to(device),
            self.labels,
            self.backgrounds.to(device),
            self.background_phrases,
            self.photos.to(device),
            self.photo_nouns,
        )

    @cached_property
    def _products(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Sprite indices of each family: families are drawn evenly, whatever their numbers."""
        names = sorted({label.name for label in self.labels if label.color})
        return tuple(
            np.array([i for i, x in enumerate(self.labels) if x.color and x.name == name])
            for name in names
        )

    @cached_property
    def _emoji(self) -> npt.NDArray[np.int64]:
        return np.array([i for i, x in enumerate(self.labels) if not x.color], np.int64)

    def pick_sprite(self, emoji_share: float, rng: np.random.Generator) -> int:
        """A random sprite: an emoji in ``emoji_share`` of the draws, if there are any."""
        if len(self._emoji) and rng.random() < emoji_share:
            return int(rng.choice(self._emoji))
        family = self._products[rng.integers(len(self._products))]
        return int(family[rng.integers(len(family))])

    def scene_caption(
        self, sprites: Sequence[int], background: int, rng: np.random.Generator
    ) -> str:
        """One of the ways to say what stands where, left to right, and on what."""
        labels = [self.labels[sprite] for sprite in sprites]
        return caption(labels, self.background_phrases[background], rng)

    def photo_caption(self, photo: int, rng: np.random.Generator) -> str:
        """``a photo of ...`` or ``a picture of ...`` with the article the noun takes."""
        noun = self.photo_nouns[photo]
        several = noun.endswith("s") and not noun.startswith("pair of ")
        start = "a photo of " if rng.random() < 0.7 else "a picture of "
        return start + (noun if several else with_article(noun))

    def captions(self, count: int, rng: np.random.Generator) -> Iterator[str]:
        """Text to learn a vocabulary from: ``count`` sprite captions, and every photo's."""
        for sprite in rng.integers(len(self.labels), size=count):
            background = int(rng.integers(len(self.background_phrases)))
            yield self.scene_caption([int(sprite)], background, rng)
        for photo in range(len(self.photo_nouns)):
            yield self.photo_caption(photo, rng)


def build_corpus(
    settings: CorpusSettings,
    image_px: int,
    *,
    cache: Path,
    emoji_dir: Path | None,
    photo_dirs: Sequence[Path],
    workers: int,
    log: TrainingLog,
) -> Corpus:
    """Render and read everything, or take from ``cache`` what an equal run left there.

    ``workers`` processes share the work; 0 does it in this one. Two calls with
    the same settings, files and image size give the same corpus.

    Raises:
        ConfigurationError: an unknown family or background kind, an emoji folder without emoji,
            a photo folder without labelled photos, or a picture that cannot be decoded.
    """
    build = partial(_cached, cache=cache, workers=workers, log=log)
    render = partial(
        _render_design,
        side_px=settings.sprite_px,
        families=settings.families or tuple(FAMILIES),
        views=settings.views_per_design,
    )
    sprites, labels = build("product sprites", range(settings.sprite_designs), render)
    if emoji_dir is not None:
        read_emoji = partial(_read_emoji, side_px=settings.sprite_px)
        emoji_sprites, emoji_labels = build("emoji sprites", list_emoji(emoji_dir), read_emoji)
        sprites, labels = torch.cat([sprites, emoji_sprites]), labels + emoji_labels
    paint = partial(_paint, side_px=image_px)
    backgrounds, phrases = build("backgrounds", _background_jobs(settings), paint)
    photo_px = round(image_px * _PHOTO_SLACK)
    photo_files = [photo for folder in photo_dirs for photo in list_photos(folder)]
    photos = torch.zeros((0, 3, photo_px, photo_px), dtype=torch.uint8)
    nouns: list[dict[str, str]] = []
    if photo_files:
        read_photo = partial(_read_photo, side_px=photo_px)
        photos, nouns = build("photos", photo_files, read_photo)
    return Corpus(
        sprites,
        tuple(SpriteLabel(**label) for label in labels),
        backgrounds,
        tuple(label["name"] for label in phrases),
        photos,
        tuple(label["name"] for label in nouns),
    )


def _background_jobs(settings: CorpusSettings) -> list[tuple[str, int]]:
    unknown = sorted(set(settings.background_kinds) - set(BACKGROUNDS))
    if unknown:
        raise ConfigurationError(
            f"unknown backgrounds {', '.join(unknown)}; expected some of {', '.join(BACKGROUNDS)}"
        )
    kinds = settings.background_kinds or tuple(BACKGROUNDS)
    return [
        (kind, _SEEDS_A_KIND * place + number)
        for place, kind in enumerate(kinds)
        for number in range(settings.backgrounds_per_kind)
    ]


_Picture = tuple[Bytes8, dict[str, str]]
"""Channels-last bytes, and the words for them."""


def _render_design(
    seed: int, side_px: int, families: tuple[str, ...], views: int
) -> list[_Picture]:
    sprites = product_sprites(seed, side_px=side_px, families=families, views=views)
    return [(sprite.rgba, asdict(sprite.label)) for sprite in sprites]


def _read_emoji(emoji: Emoji, side_px: int) -> list[_Picture]:
    rgba = np.asarray(_open(emoji.path, "RGBA"))
    return [(stand_in_square(rgba, side_px), asdict(SpriteLabel(emoji.noun)))]


def _paint(job: tuple[str, int], side_px: int) -> list[_Picture]:
    kind, seed = job
    return [(paint_background(kind, seed, side_px), {"name": kind})]


def _read_photo(photo: PhotoFile, side_px: int) -> list[_Picture]:
    image = _open(photo.path, "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    scaled = square.resize((side_px, side_px), Image.Resampling.LANCZOS)
    return [(np.asarray(scaled), {"name": photo.noun})]


def _open(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be decoded as a picture: {error}") from error


def _cached(
    name: str,
    jobs: Sequence[_Job],
    make: partial[list[_Picture]],
    *,
    cache: Path,
    workers: int,
    log: TrainingLog,
) -> tuple[Tensor, list[dict[str, str]]]:
    """All pictures ``(n, c, side, side)`` and their words, made once for equal arguments."""
    text = json.dumps([make.keywords, [str(job) for job in jobs]])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = cache / f"{name.replace(' ', '-')}-{key}.safetensors"
    if path.exists():
        tensors, facts = load_tensors(path)
        return tensors["pictures"], facts["labels"]
    pictures, labels = [], []
    with log.stage(name, len(jobs)) as progress:
        for done, made in enumerate(_in_processes(make, jobs, workers), 1):
            pictures += [pixels for pixels, _ in made]
            labels += [words for _, words in made]
            progress.reach(done)
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    save_tensors(path, {"pictures": stacked}, {"labels": labels})
    return stacked, labels


def _in_processes(
    make: Callable[[_Job], list[_Picture]], jobs: Sequence[_Job], workers: int
) -> Iterator[list[_Picture]]:
    if workers == 0:
        yield from map(make, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(make, jobs, chunksize=8)
