"""Opening the model: one engine a process and base, samplers over it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_pipeline.base_model import EMBEDDED_SIZE_STEP_PX, EMBEDDED_WEIGHTS
from catalog_pipeline.errors import ConfigurationError, GenerationError, LearningError
from catalog_pipeline.records import AdapterVersion, Concept, part_owner
from catalog_pipeline.settings import BaseModelSettings, GenerationSettings, Settings
from catalog_pipeline.workflows.home import Home

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.memory_need import Work
    from catalog_pipeline.diffusion.prompts import PromptTokenizer
    from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
    from catalog_pipeline.evaluation.product_mask import ProductMasker
    from catalog_pipeline.generation.sampler import SceneSampler
    from catalog_pipeline.stores.adapters import AdapterStore

_log = logging.getLogger(__name__)
_WORDS = {"learn": "learning a product", "night": "rendering a batch of a night"}


def open_engine(settings: Settings) -> DiffusionEngine:
    """A fresh engine over the configured base; slots installed in it belong to the caller."""
    from catalog_pipeline.diffusion.base import load_base_model
    from catalog_pipeline.diffusion.sampling import DiffusionEngine

    return DiffusionEngine(load_base_model(settings.base_model), settings.learning.adapter)


def base_size_plan(engine: DiffusionEngine, generation: GenerationSettings) -> SamplingPlan:
    """The solver settings of a night, at the size that the base was trained at."""
    from catalog_pipeline.diffusion.sampling import SamplingPlan

    side = engine.base.sample_size_px
    return SamplingPlan(generation.steps, generation.guidance, side, side, generation.sampler)


def check_base_model(settings: Settings) -> None:
    """Refuse a base that cannot be opened, before its weights are read or anything is written.

    Raises:
        BaseModelError: what was found, what is supported and what to do, in one line.
    """
    from catalog_pipeline.diffusion.base import resolve_base_model

    resolve_base_model(settings.base_model)


def require_memory(settings: Settings, work: Work) -> None:
    """Refuse work for which a GPU has too little memory; on a CPU, which may swap, warn.

    Raises:
        ConfigurationError: what it needs, what there is and what to change, in one line.
    """
    from catalog_pipeline.diffusion.base import resolve_base_model
    from catalog_pipeline.diffusion.memory_need import (
        device_of,
        free_bytes,
        memory_need,
        what_to_change,
    )

    folder = resolve_base_model(settings.base_model)
    need, device = memory_need(settings, folder), device_of(settings)
    free = free_bytes(device)
    if need is None or not free or need.of(work) <= free:
        return
    words = (
        f"{_WORDS[work]} needs about {need.of(work) / 1e9:.1f} GB of memory, and {device} has "
        f"{free / 1e9:.1f} GB free; in base_model.yaml "
        + what_to_change(settings, folder, work, free)
    )
    if device.type != "cpu":
        raise ConfigurationError(words)
    _log.warning(words)


@lru_cache(maxsize=1)
def prompt_tokenizer(base: BaseModelSettings) -> PromptTokenizer:
    """How the configured base reads prompts; of a local folder without importing torch."""
    from catalog_pipeline.diffusion.prompts import open_prompt_tokenizer

    if base.base_model == "embedded":
        return open_prompt_tokenizer(EMBEDDED_WEIGHTS)
    folder = Path(base.base_model).expanduser()
    if not folder.is_dir():
        from catalog_pipeline.diffusion.base import resolve_base_model

        folder = resolve_base_model(base)
    return open_prompt_tokenizer(folder)


@lru_cache(maxsize=1)
def size_step_px(base: BaseModelSettings) -> int:
    """What the sides of the configured base's pictures are multiples of; no weight is read."""
    if base.base_model == "embedded":
        return EMBEDDED_SIZE_STEP_PX
    from catalog_pipeline.diffusion.base import resolve_base_model
    from catalog_pipeline.diffusion.outline import read_size_step

    return read_size_step(resolve_base_model(base))


def check_picture_size(settings: Settings) -> int:
    """Refuse a picture that the base cannot make in its size; returns :func:`size_step_px`.

    Raises:
        ConfigurationError: names the side, what the base makes and the nearest that it can.
        BaseModelError: the base model cannot be opened.
    """
    step = size_step_px(settings.base_model)
    for name in ("width", "height"):
        side = getattr(settings.generation, name)
        if not side:
            raise ConfigurationError(
                f"generation.yaml: {name} is 0, and the base {settings.base_model.base_model} "
                "is no local folder that says its own; set it, in pixels"
            )
        if side % step:
            near = sorted({max(step, side // step * step), (side // step + 1) * step})
            raise ConfigurationError(
                f"generation.yaml: {name} is {side}, and the sides of this base's pictures are "
                f"multiples of {step} pixels; set it to {' or '.join(map(str, near))}"
            )
    return step


@lru_cache(maxsize=1)
def base_model_hash(base: BaseModelSettings) -> str:
    """Content hash of the configured base without loading its weights into memory."""
    from catalog_pipeline.diffusion.base import hash_model_folder, resolve_base_model

    return hash_model_folder(resolve_base_model(base))


@lru_cache(maxsize=1)
def product_masker() -> ProductMasker:
    """The one that photos and pictures share; it keeps nothing of them."""
    from catalog_pipeline.evaluation.product_mask import ProductMasker

    return ProductMasker()


def drawn_by(*versions: AdapterVersion) -> dict[str, AdapterVersion]:
    """SKU -> the version that draws it: of ``versions`` the last that knows it."""
    return {concept.sku: version for version in versions for concept in version.concepts}


def concepts_of(drawers: Mapping[str, AdapterVersion]) -> dict[str, Concept]:
    """SKU -> its concept in the version that draws it."""
    versions = {version.version: version for version in drawers.values()}
    return {
        concept.sku: concept
        for name, version in versions.items()
        for concept in version.concepts
        if drawers[concept.sku].version == name
    }


def open_sampler(home: Home, drawers: Mapping[str, AdapterVersion]) -> SceneSampler:
    """A sampler of products, each drawn by its version: ``drawers`` is of :func:`drawn_by`.

    Raises:
        LearningError: a version was learned on another base.
    """
    engine = open_engine(home.settings)
    for version in {version.version: version for version in drawers.values()}.values():
        check_same_base(version, engine.base.content_hash)
    return sampler_on(engine, home, drawers)


def sampler_on(
    engine: DiffusionEngine, home: Home, drawers: Mapping[str, AdapterVersion]
) -> SceneSampler:
    """A sampler of products whose versions must be of the base of ``engine``."""
    from catalog_pipeline.generation.sampler import SceneSampler

    def read_part(name: str) -> bytes:
        # A shared slot is of a whole collection, which is then the only one.
        version = drawers[part_owner(name)] if part_owner(name) else next(iter(drawers.values()))
        return read_named_part(home.adapters(version.collection), version, name)

    settings = home.settings
    return SceneSampler(
        engine, settings.learning.adapter, read_part, settings.generation.batch_size
    )


def served_version(home: Home, collection: str) -> AdapterVersion:
    """The head of ``collection``; ``GenerationError`` when it has learned nothing."""
    version = home.adapters(collection).current()
    if version is None:
        raise GenerationError(
            f"collection '{collection}' has learned nothing yet; run `catalog-pipeline learn`"
        )
    return version


def check_same_base(version: AdapterVersion, base_hash: str) -> None:
    """Raises ``LearningError`` when ``version`` was learned on another base model."""
    if version.base_model_hash != base_hash:
        raise LearningError(
            f"version {version.version} was learned on base {version.base_model_hash[:12]}, but "
            f"base_model.yaml opens {base_hash[:12]}; set base_model back, or learn the "
            "collection anew under another home"
        )


def read_named_part(store: AdapterStore, version: AdapterVersion, name: str) -> bytes:
    """The bytes of part ``name`` of ``version``; ``GenerationError`` when it has none."""
    if name not in version.parts:
        raise GenerationError(f"version {version.version} has no part '{name}'")
    return store.read_part(version.parts[name])
