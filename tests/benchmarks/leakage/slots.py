"""What a slot knows of single photos: its pictures, and its loss, on learned and held out ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import torch

from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.learning.augmentation import PHOTO_TEMPLATES, Backdrop
from catalog_pipeline.learning.memory import derive_seed
from catalog_pipeline.learning.methods.collection import HeldCollection, NewConcept
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.learning.methods.own_slots import OwnSlots
from catalog_pipeline.learning.pool import TrainingPool, training_pool
from catalog_pipeline.learning.task import LearningTask
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.records import Concept, Photo, Pixels
from catalog_pipeline.settings import LearningSettings
from tests.benchmarks.leakage.likeness import crop_of_photo, crop_of_picture, encode, nearest, ssim
from tests.benchmarks.leakage.subjects import Subject

VIEWS = 8
"""Framed views of a photo on which its loss is measured."""


@dataclass(frozen=True)
class LearnedSlot:
    """What was drawn, and how much the loss of each photo fell, as a share of the base's."""

    pictures: list[Pixels]
    fall_of_learned: list[float]
    fall_of_held_out: list[float]


class SlotMaker:
    """Learns products as the product line does, each alone."""

    def __init__(
        self,
        engine: DiffusionEngine,
        settings: LearningSettings,
        encoder: FeatureEncoder,
        backdrops: tuple[Backdrop, ...],
        plan: SamplingPlan,
    ) -> None:
        self._engine, self._settings, self._encoder, self._plan = engine, settings, encoder, plan
        self._method = OwnSlots(LearningContext(engine, settings, encoder.encode, backdrops, plan))

    def make(self, subject: Subject, pictures: int) -> LearnedSlot:
        """Learn from the learned photos; draw so many pictures by the photos' own prompts."""
        tokens = placeholder_tokens(subject.sku, self._settings.adapter.tokens_per_concept)
        concept = Concept(
            *(subject.sku, subject.sku, subject.class_noun, "", tokens),
            photos_hash=subject.sku,
            task=1,
        )
        features = self._encoder.encode([photo.pixels for photo in subject.learned])
        self._method.open(HeldCollection())
        task = self._method.task(NewConcept(concept, subject.learned, features))
        groups = [self._pools(photos) for photos in (subject.learned, subject.held_out)]
        before = [self._losses_of_the_base(task, pools) for pools in groups]
        self._method.train(task)
        after = [self._losses(task, pools) for pools in groups]
        falls = [
            [1 - new / old for old, new in zip(*pair, strict=True)]
            for pair in zip(before, after, strict=True)
        ]
        return LearnedSlot(self._draw(concept, pictures), *falls)

    def _draw(self, concept: Concept, count: int) -> list[Pixels]:
        templates = [PHOTO_TEMPLATES[i % len(PHOTO_TEMPLATES)] for i in range(count)]
        prompts = [self._method.regional_prompt(template, concept) for template in templates]
        seeds = [derive_seed(1, concept.sku, i) for i in range(count)]
        drawn: list[Pixels] = []
        for start in range(0, count, 4):
            part = slice(start, start + 4)
            drawn += self._engine.decode(
                self._engine.sample(prompts[part], seeds[part], self._plan)
            )
        return drawn

    def _pools(self, photos: Sequence[Photo]) -> list[TrainingPool]:
        return [training_pool(self._engine, [photo], (), 7, VIEWS) for photo in photos]

    def _losses(self, task: LearningTask, pools: Sequence[TrainingPool]) -> list[float]:
        step = TrainingStep(self._engine, self._settings, task, ())
        return [step.heldout_loss(task.subjects[0], pool) for pool in pools]

    def _losses_of_the_base(self, task: LearningTask, pools: Sequence[TrainingPool]) -> list[float]:
        """With a fresh slot, which changes nothing, and tokens that say the class noun."""
        (subject,) = task.subjects
        generator = torch.Generator().manual_seed(task.seed)
        self._engine.adapter.add_slot(subject.slot, generator)
        self._engine.text.start(
            subject.concept.placeholder_tokens, subject.concept.class_noun, generator
        )
        losses = self._losses(task, pools)
        self._engine.adapter.drop_slot(subject.slot)
        return losses


def memorised(
    slot: LearnedSlot, subject: Subject, encoder: FeatureEncoder, masker: ProductMasker
) -> dict[str, list[float]]:
    """Of each picture in which a product is found, how near the nearest photo is.

    ``learned`` and ``held_out`` are cosines of crops to the nearest of as many photos,
    ``ssim_*`` the same by pixels; ``between`` and ``ssim_between`` are of held out photos to the
    nearest learned one: what another photo of the product is worth.
    """
    crops = [crop for p in slot.pictures if (crop := crop_of_picture(p, masker)) is not None]
    learned, held = (
        [crop for photo in photos if (crop := crop_of_photo(photo)) is not None]
        for photos in (subject.learned, subject.held_out)
    )
    if not crops or not learned or not held:
        return {}
    drawn, one, two = (encode(encoder, pictures) for pictures in (crops, learned, held))
    return {
        "learned": nearest(drawn, one).tolist(),
        "held_out": nearest(drawn, two).tolist(),
        "between": nearest(two, one).tolist(),
        "ssim_learned": [max(ssim(crop, photo) for photo in learned) for crop in crops],
        "ssim_held_out": [max(ssim(crop, photo) for photo in held) for crop in crops],
        "ssim_between": [max(ssim(crop, photo) for photo in learned) for crop in held],
    }


def by_chance(successes: int, tries: int) -> float:
    """How often as many of fair coins fall on one side, whichever: a two-sided sign test."""
    tail = min(successes, tries - successes)
    below = sum(comb(tries, k) for k in range(tail + 1))
    return float(min(1.0, np.ldexp(2.0 * below, -tries)))
