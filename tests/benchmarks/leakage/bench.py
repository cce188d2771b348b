"""The products, the models that look at them, and what each attack gets out of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
from catalog_pipeline.evaluation.features import PooledEncoder, open_encoder
from catalog_pipeline.evaluation.palettes import (
    OPAQUE,
    palette_likeness,
    palette_of,
    palette_of_photos,
)
from catalog_pipeline.records import Palette, Photo, Pixels
from catalog_pipeline.settings import BaseModelSettings, LearningSettings
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.workflows.learn.empty_scenes import load_backdrops
from tests.benchmarks.leakage.inversion import Inverter
from tests.benchmarks.leakage.likeness import encode, flat, psnr, squared, ssim
from tests.benchmarks.leakage.slots import LearnedSlot
from tests.benchmarks.leakage.subjects import Subject

log = logging.getLogger("bench")


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    inverted: int = 8
    from_latents: int = 4
    pixel_steps: int = 400
    latent_steps: int = 200
    slots: int = 6
    training_steps: int = 120
    pictures: int = 12
    sampler_steps: int = 20


@dataclass(frozen=True)
class Reconstruction:
    """A picture made from a stored feature; ``rank`` is of its photo among all photos, from 1."""

    sku: str
    how: str
    cosine: float
    likeness: float
    ssim: float
    rank: int


class Bench:
    """The products, and the models that look at them."""

    def __init__(
        self, subjects: Sequence[Subject], objects: LocalObjectStore, sizes: Sizes
    ) -> None:
        self.subjects, self.sizes = subjects, sizes
        self.settings = LearningSettings(steps=sizes.training_steps)
        base = load_base_model(BaseModelSettings(dtype="float32"))
        self.engine = DiffusionEngine(base, self.settings.adapter)
        self.memory, self.judge = PooledEncoder("mobilenet_v2"), open_encoder("efficientnet_lite0")
        side = base.sample_size_px
        self.plan = SamplingPlan(sizes.sampler_steps, 3.0, side, side)
        self.backdrops = load_backdrops(self.engine, self.plan, self.settings, objects)
        self.photos = [(s, photo) for s in subjects for photo in s.photos]
        self.seen = encode(self.judge, [photo.pixels for _, photo in self.photos])

    def place(self, photo: Photo) -> int:
        """Of a photo among all."""
        return next(i for i, (_, other) in enumerate(self.photos) if other is photo)

    def references(self) -> dict[str, dict[str, float]]:
        """How like a first photo is another of the product, of its class, of any other."""
        kinds: dict[str, Callable[[Subject, Subject], bool]] = {
            "same_product": lambda a, b: a is b,
            "same_class": lambda a, b: a is not b and a.class_noun == b.class_noun,
            "other": lambda a, b: a.class_noun != b.class_noun,
        }
        found = {}
        for kind, fits in kinds.items():
            pairs = [
                (self.place(one.photos[0]), place)
                for one in self.subjects
                for place, (other, photo) in enumerate(self.photos)
                if fits(one, other) and photo is not one.photos[0]
            ]
            found[kind] = self._of_pairs(pairs)
        return found

    def _of_pairs(self, pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
        pixels = [photo.pixels for _, photo in self.photos]
        some = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:60]]
        return {
            "likeness": fmean(float(self.seen[a] @ self.seen[b]) for a, b in pairs),
            "ssim": fmean(ssim(pixels[a], pixels[b]) for a, b in some),
        }

    def invert(self, slots: dict[str, LearnedSlot]) -> tuple[list[Reconstruction], dict[str, Any]]:
        """Every attack on the features of first photos; the pictures by way and SKU."""
        inverter, sizes = Inverter(self.memory, self.engine), self.sizes
        chosen = spread(self.subjects, sizes.inverted)
        wanted = self.memory.encode([s.photos[0].pixels for s in chosen])
        made: dict[str, Any] = {}
        log.info("inverting %d features by pixels", len(chosen))
        found = self._judged(
            "pixels", chosen, inverter.from_pixels(wanted, sizes.pixel_steps, 0), made
        )
        few = [s for s in chosen if s.sku in slots][: sizes.from_latents] or chosen[:1]
        rows = wanted[[chosen.index(s) for s in few]]
        log.info("inverting %d features by latents", len(few))
        found += self._judged(
            "latents", few, inverter.from_latents(rows, sizes.latent_steps, 0), made
        )
        known = [s for s in few if s.sku in slots]
        if known:
            log.info("the same from what the slot draws")
            starts = self.engine.encode_images(
                [squared(self._best_drawn(s, slots[s.sku])) for s in known]
            )
            rows = wanted[[chosen.index(s) for s in known]]
            pictures = inverter.from_latents(rows, sizes.latent_steps, 0, starts)
            found += self._judged("slot and latents", known, pictures, made)
        return found, made

    def _best_drawn(self, subject: Subject, slot: LearnedSlot) -> Pixels:
        """What somebody with memory and slot would start from: the nearest to the feature."""
        (wanted,) = self.memory.encode([subject.photos[0].pixels])
        features = self.memory.encode(slot.pictures)
        return slot.pictures[int((features @ wanted).argmax())]

    def _judged(
        self,
        how: str,
        subjects: Sequence[Subject],
        pictures: tuple[list[Pixels], list[float]],
        made: dict[str, Any],
    ) -> list[Reconstruction]:
        features = encode(self.judge, pictures[0])
        found = []
        for subject, picture, reached, feature in zip(subjects, *pictures, features, strict=True):
            photo = subject.photos[0]
            cosines = self.seen @ feature
            own = float(cosines[self.place(photo)])
            rank = 1 + int((cosines > own).sum())
            found.append(
                Reconstruction(subject.sku, how, reached, own, ssim(picture, photo.pixels), rank)
            )
            made.setdefault(subject.sku, {})[how] = picture
        return found

    def through_latents(self) -> tuple[dict[str, float], dict[str, Pixels]]:
        """Photos encoded and decoded again by the base's autoencoder."""
        firsts = [s.photos[0].pixels for s in self.subjects]
        back = self.engine.decode(self.engine.encode_images([squared(p) for p in firsts]))
        pairs = list(zip(firsts, back, strict=True))
        features = encode(self.judge, back)
        own = self.seen[[self.place(s.photos[0]) for s in self.subjects]]
        return {
            "psnr": fmean(psnr(*pair) for pair in pairs),
            "ssim": fmean(ssim(*pair) for pair in pairs),
            "likeness": float((features * own).sum(axis=1).mean()),
            "photos": len(pairs),
        }, dict(zip((s.sku for s in self.subjects), back, strict=True))

    def small_things(self) -> dict[str, float]:
        """What palettes, and features themselves, say of whose photo it is."""
        memories = {s.sku: self.memory.encode([p.pixels for p in s.learned]) for s in self.subjects}
        palettes = {s.sku: palette_of_photos(s.learned) for s in self.subjects}
        asked = [(s, photo) for s in self.subjects for photo in s.held_out]
        features = self.memory.encode([photo.pixels for _, photo in asked])
        by_feature = [
            _argmax({sku: float((bank @ row).max()) for sku, bank in memories.items()}) == s.sku
            for (s, _), row in zip(asked, features, strict=True)
        ]
        by_palette = [
            _argmax({sku: _palettes_alike(palette, photo) for sku, palette in palettes.items()})
            == s.sku
            for s, photo in asked
            if photo.mask is not None
        ]
        pixels = [photo.pixels for _, photo in asked]
        plain, of_photos = [flat(photo) for photo in pixels], encode(self.judge, pixels)
        return {
            "products": len(self.subjects),
            "photos": len(asked),
            "named_by_feature": fmean(by_feature),
            "named_by_palette": fmean(by_palette),
            "flat_ssim": fmean(ssim(*pair) for pair in zip(plain, pixels, strict=True)),
            "flat_likeness": float((of_photos * encode(self.judge, plain)).sum(axis=1).mean()),
        }


def spread(subjects: Sequence[Subject], count: int) -> list[Subject]:
    """So many, in turn of every source, those with most photos first."""
    order = sorted(subjects, key=lambda s: (-len(s.learned), s.sku))
    queues = [
        [s for s in order if s.source == kind] for kind in sorted({s.source for s in subjects})
    ]
    turns = [s for turn in range(len(order)) for queue in queues for s in queue[turn : turn + 1]]
    return turns[:count]


def _argmax(scores: dict[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])


def _palettes_alike(palette: Palette | None, photo: Photo) -> float:
    assert photo.mask is not None
    if palette is None:
        return 0.0
    return palette_likeness(palette, palette_of(photo.pixels, photo.mask >= OPAQUE))
