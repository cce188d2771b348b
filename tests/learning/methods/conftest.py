"""Two-photo concepts, and what methods share over the tiny model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from catalog_pipeline.diffusion.base import BaseModel, load_base_model
from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.learning.methods import ewc
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.records import Features, Pixels
from catalog_pipeline.settings import AdapterSettings, BaseModelSettings, LearningSettings
from tests.builders import make_concept, make_photos

SETTINGS = LearningSettings(
    steps=3,
    latent_views=5,
    batch_size=2,
    prior_images=2,
    replay_candidates=2,
    replay_exemplars=1,
    scenes=("in the snow",),
    seed=7,
)


def encode(pictures: list[Pixels]) -> Features:
    """A tiny real encoder: each picture at 2 x 2 pixels, as a unit vector."""
    small = np.stack([picture[::8, ::8].reshape(-1) for picture in pictures]).astype(np.float32)
    return small / np.linalg.norm(small, axis=1, keepdims=True)


def new_concept(sku: str, noun: str, seed: int) -> NewConcept:
    photos = make_photos(2, 16, seed=seed, masked=True)
    concept = make_concept(sku, seed, class_noun=noun, photos_hash=str(seed))
    return NewConcept(concept, photos, encode([photo.pixels for photo in photos]))


def tensors_of(state: Mapping[str, bytes]) -> dict[str, torch.Tensor]:
    """``<part>/<tensor>`` of every stored part."""
    return {f"{part}/{n}": t for part, data in state.items() for n, t in load(data).items()}


@pytest.fixture(autouse=True)
def _few_fisher_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ewc, "FISHER_SAMPLES", 3)


@pytest.fixture(scope="session")
def news() -> tuple[NewConcept, ...]:
    return (
        new_concept("A.1", "mug", 1),
        new_concept("B", "hat", 2),
        new_concept("C", "mug", 3),
    )


@pytest.fixture(scope="session")
def untouched_base(tiny_model_folder: Path) -> BaseModel:
    source = BaseModelSettings(base_model=str(tiny_model_folder), dtype="float32")
    return load_base_model(source)


@pytest.fixture
def open_context(untouched_base: BaseModel) -> Callable[..., LearningContext]:
    """``open_context(**changed settings)``: a fresh engine and the rest."""

    def make(**changes: object) -> LearningContext:
        settings = LearningSettings.model_validate({**SETTINGS.model_dump(), **changes})
        # An engine installs itself into its base; a copy is far cheaper than loading again.
        engine = DiffusionEngine(copy.deepcopy(untouched_base), AdapterSettings(rank=2))
        backdrops = (Backdrop(np.zeros((16, 16, 3), np.uint8), "in the snow"),)
        return LearningContext(engine, settings, encode, backdrops, SamplingPlan(2, 2.0, 16, 16))

    return make
