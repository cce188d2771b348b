"""What the bare base renders for the benchmark: once a home, then read from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from safetensors.numpy import load, save

from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.learning.memory import derive_seed
from catalog_pipeline.records import Features, Pixels
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.stores.local import LocalObjectStore

BASE_ONLY_PROMPTS = (
    "a photo of a backpack on a wooden table",
    "a photo of a stuffed animal on a white background",
    "a photo of a toy on green grass",
    "a photo of a carton on a marble counter",
    "a photo of a sneaker on a stone floor",
    "a photo of a mug on a wooden table",
    "a photo of a teapot on pink fabric",
    "a photo of a chair in a living room",
    "a photo of a lamp on a gray background",
    "a photo of a ball on a sandy beach",
    "a photo of a hat in the snow",
    "a photo of a vase on a white background",
    "a photo of a mug and a backpack on green grass",
    "a photo of a red ball and a blue box on a wooden table",
    "an empty scene on a sandy beach",
    "an empty scene on a cobblestone street",
)
"""Prompts without a learned product: their pictures should not change while products are learned.

The first five say the class nouns of learned products, where a shared adapter drifts first.
"""
SCENE_NOUNS = ("mug", "backpack", "toy", "chair")
"""A scene's prototype is the mean over pictures of the base with these things in it."""

DREAM_SCENES = (
    "in the snow",
    "on a cobblestone street",
    "on pink fabric",
    "on a stone floor",
    "on green grass",
    "under a blue sky",
    "on a wooden table",
    "on a sandy beach",
)
"""Where DreamBench puts its products (DreamBooth, arXiv:2208.12242), in words of the base."""
SCENES = LearningSettings().scenes
"""The scenes that are told apart; those of the measured prompts are among them."""

_BATCH = 8
_SEED = 0


@dataclass(frozen=True)
class References:
    """Features of base-only pictures by encoder.

    ``prior[encoder]`` is ``(len(BASE_ONLY_PROMPTS), width)``; ``scenes[encoder][phrase]``
    is ``(len(SCENE_NOUNS), width)``.
    """

    prior: Mapping[str, Features]
    scenes: Mapping[str, Mapping[str, Features]]


def render(
    engine: DiffusionEngine,
    batch: Sequence[RegionalPrompt],
    seeds: Sequence[int],
    plan: SamplingPlan,
) -> list[Pixels]:
    """Pictures of ``batch``, eight at a time."""
    pictures: list[Pixels] = []
    for start in range(0, len(batch), _BATCH):
        part = slice(start, start + _BATCH)
        pictures += engine.decode(engine.sample(batch[part], seeds[part], plan))
    return pictures


def render_base_only(
    engine: DiffusionEngine, regional_prompt: Callable[[str], RegionalPrompt], plan: SamplingPlan
) -> list[Pixels]:
    """One picture of each base-only prompt; ``regional_prompt`` says how a prompt is routed."""
    seeds = [derive_seed(_SEED, "base-only", index) for index in range(len(BASE_ONLY_PROMPTS))]
    return render(engine, [regional_prompt(prompt) for prompt in BASE_ONLY_PROMPTS], seeds, plan)


def load_references(
    engine: DiffusionEngine,
    plan: SamplingPlan,
    encoders: Mapping[str, FeatureEncoder],
    objects: LocalObjectStore,
) -> References:
    """Read the references of this base and plan from ``objects``, or render them there."""
    key = _key(engine.base.content_hash, plan, encoders)
    if not objects.exists(key):
        objects.put(key, _render_references(engine, plan, encoders))
    return read_references(engine.base.content_hash, plan, encoders, objects)


def read_references(
    base_hash: str,
    plan: SamplingPlan,
    encoders: Mapping[str, FeatureEncoder],
    objects: LocalObjectStore,
) -> References:
    """The references that :func:`load_references` has left in ``objects``.

    Raises:
        ObjectNotFoundError: it has not.
    """
    found = load(objects.read(_key(base_hash, plan, encoders)).data)
    scenes: dict[str, dict[str, Features]] = {}
    for name in encoders:
        rows = found[f"scenes/{name}"].reshape(len(SCENES), len(SCENE_NOUNS), -1)
        scenes[name] = dict(zip(SCENES, rows, strict=True))
    return References({name: found[f"prior/{name}"] for name in encoders}, scenes)


def _key(base_hash: str, plan: SamplingPlan, encoders: Mapping[str, FeatureEncoder]) -> str:
    asked = [BASE_ONLY_PROMPTS, SCENES, SCENE_NOUNS, repr(plan), sorted(encoders), _SEED]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    return f"base/{base_hash[:16]}/references-{digest}.safetensors"


def _render_references(
    engine: DiffusionEngine,
    plan: SamplingPlan,
    encoders: Mapping[str, FeatureEncoder],
) -> bytes:
    prior = render_base_only(engine, lambda prompt: RegionalPrompt((prompt,), (None,)), plan)
    prompts = [f"a photo of a {noun} {phrase}" for phrase in SCENES for noun in SCENE_NOUNS]
    seeds = [derive_seed(_SEED, "scene", index) for index in range(len(prompts))]
    scenes = render(engine, [RegionalPrompt((p,), (None,)) for p in prompts], seeds, plan)
    features = {f"prior/{name}": encoder.encode(prior) for name, encoder in encoders.items()}
    features |= {f"scenes/{name}": encoder.encode(scenes) for name, encoder in encoders.items()}
    return save(features)
