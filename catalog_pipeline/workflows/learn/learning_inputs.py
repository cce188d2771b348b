"""What a learning task is made of: masked photos, scenes, memory banks, and their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from catalog_pipeline.records import AdapterVersion, Concept, Photo, PhotoSet, Sku
from catalog_pipeline.settings import LearningSettings, Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.models import read_named_part

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
    from catalog_pipeline.evaluation.features import FeatureEncoder
    from catalog_pipeline.evaluation.product_mask import ProductMasker
    from catalog_pipeline.learning.augmentation import Backdrop
    from catalog_pipeline.learning.memory import LatentBank, RememberedConcept
    from catalog_pipeline.learning.task import LearningTask

SHARED = "shared"


@dataclass(frozen=True)
class LearningTools:
    """The loaded models of one learning run."""

    engine: DiffusionEngine
    encoder: FeatureEncoder
    masker: ProductMasker
    plan: SamplingPlan


def open_tools(settings: Settings) -> LearningTools:
    """Load base, encoder and mask model; seconds on a CPU, so once a run."""
    from catalog_pipeline.diffusion.sampling import SamplingPlan
    from catalog_pipeline.evaluation.features import open_encoder
    from catalog_pipeline.evaluation.product_mask import ProductMasker
    from catalog_pipeline.workflows.models import open_engine

    engine = open_engine(settings)
    side, generation = engine.base.sample_size_px, settings.generation
    plan = SamplingPlan(generation.steps, generation.guidance, side, side, generation.sampler)
    return LearningTools(engine, open_encoder(), ProductMasker(), plan)


def draft_concept(
    parent: AdapterVersion | None, card: Sku, tokens: int, photos: str, config: str
) -> Concept:
    """The concept of ``card`` as the task after ``parent`` will learn it, without figures."""
    from catalog_pipeline.diffusion.text import placeholder_tokens

    return Concept(
        sku=card.sku,
        name=card.name,
        class_noun=card.class_noun,
        category=card.category,
        placeholder_tokens=placeholder_tokens(card.sku, tokens),
        photos_hash=photos,
        config_hash=config,
        task=1 + tasks_so_far(parent) if parent else 1,
    )


def make_task(
    tools: LearningTools,
    objects: ObjectStore,
    store: AdapterStore,
    learning: LearningSettings,
    parent: AdapterVersion | None,
    concept: Concept,
    photo_set: PhotoSet,
) -> LearningTask:
    """The task that learns ``concept``, with the engine brought to the state of ``parent``."""
    from catalog_pipeline.learning.memory import derive_seed
    from catalog_pipeline.learning.task import LearningTask, Subject

    shared = learning.adapter.slots == "shared"
    seed = derive_seed(learning.seed, concept.sku, 0)
    prior = exemplars = None
    if shared:
        install_shared(tools, store, parent)
        remembered = remembered_concepts(store, parent, learning, concept.sku)
        prior, exemplars = recall_banks(tools, learning, remembered, concept.class_noun, seed)
    origin = parent.parts.get(SHARED, "") if parent is not None and shared else ""
    inputs = f"{concept.sku}|{concept.photos_hash}|{concept.config_hash}|{origin}"
    subject = Subject(
        class_noun=concept.class_noun,
        photos=with_masks(photo_set.photos, tools.masker),
        slot=SHARED if shared else concept.sku,
        placeholder_tokens=concept.placeholder_tokens,
        fresh_slot=not shared or parent is None,
    )
    return LearningTask(
        subjects=(subject,),
        backdrops=load_backdrops(tools, learning, objects),
        fingerprint=hashlib.sha256(inputs.encode()).hexdigest(),
        seed=seed,
        prior=prior,
        exemplars=exemplars,
    )


def concept_config_hash(settings: LearningSettings, base_hash: str, encoder: str) -> str:
    """Changes when anything changes that the learned weights depend on, the photos apart."""
    ours = settings.model_dump(mode="json")
    # The gate judges weights; a second try is made of the same inputs as the first.
    ours = {name: value for name, value in ours.items() if not name.startswith("gate_")}
    return digest({"learning": ours, "base": base_hash, "encoder": encoder})


def photos_hash(photo_set: PhotoSet) -> str:
    """Changes when a photo or the class noun changes; other card fields do not train anything."""
    digests = sorted(photo.sha256 for photo in photo_set.photos)
    return digest({"photos": digests, "class_noun": photo_set.sku.class_noun})


def memory_version(parts: dict[str, str]) -> str:
    """Names the long-term bank: a hash over its entries."""
    return digest({k: v for k, v in parts.items() if k.startswith("memory/")})[:16]


def digest(content: object) -> str:
    """SHA-256 of plain data, however its keys are ordered."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def with_masks(photos: Sequence[Photo], masker: ProductMasker) -> tuple[Photo, ...]:
    """``photos`` with a product mask each where the mask model finds a believable one.

    A mask that is mostly the arm that holds the product is not believed.
    """
    from catalog_pipeline.evaluation.product_mask import MAX_ARM_SHARE, arm_share

    masked = []
    for photo in photos:
        if photo.mask is None:
            found = masker.mask(photo.pixels)
            usable = found.usable and arm_share(photo.pixels, found.mask) <= MAX_ARM_SHARE
            photo = replace(photo, mask=found.mask if usable else None)
        masked.append(photo)
    return tuple(masked)


def load_backdrops(
    tools: LearningTools, settings: LearningSettings, objects: ObjectStore
) -> tuple[Backdrop, ...]:
    """Empty scenes of the base; rendered once for each base and list of scenes, then cached."""
    from catalog_pipeline.learning.memory import (
        decode_backdrops,
        encode_backdrops,
        render_backdrops,
    )

    phrases = [p for p in settings.scenes for _ in range(settings.backdrops_per_scene)]
    if not phrases:
        return ()
    asked = digest({"phrases": phrases, "seed": settings.seed, "plan": repr(tools.plan)})
    key = f"base/{tools.engine.base.content_hash[:16]}/backdrops-{asked[:16]}.safetensors"
    if objects.exists(key):
        return decode_backdrops(objects.read(key).data)
    backdrops = render_backdrops(tools.engine, phrases, tools.plan, settings.seed)
    objects.put(key, encode_backdrops(backdrops))
    return backdrops


def remembered_concepts(
    store: AdapterStore,
    version: AdapterVersion | None,
    settings: LearningSettings,
    leave_out: str,
) -> list[RememberedConcept]:
    """The concepts that this task refreshes: at most ``replay_concepts``, in turn."""
    from catalog_pipeline.learning.memory import RememberedConcept, refreshed

    if version is None:
        return []
    concepts = [c for c in version.concepts if c.sku != leave_out]
    remembered = []
    for concept in refreshed(concepts, settings.replay_concepts, tasks_so_far(version)):
        entry = decode_memory(read_named_part(store, version, f"memory/{concept.sku}"))
        remembered.append(RememberedConcept(concept, SHARED, entry.prompts, entry.features))
    return remembered


def tasks_so_far(version: AdapterVersion) -> int:
    """How many tasks led to ``version``, SKUs learned anew counted again."""
    return max((concept.task for concept in version.concepts), default=0)


def install_shared(
    tools: LearningTools, store: AdapterStore, version: AdapterVersion | None
) -> None:
    """Bring the shared slot and every earlier token to the state of ``version``."""
    from catalog_pipeline.diffusion.parts import install_part

    if version is None:
        if SHARED in tools.engine.adapter.slots:
            tools.engine.adapter.drop_slot(SHARED)
        return
    install_part(tools.engine, read_named_part(store, version, SHARED), slot=SHARED)
    for concept in version.concepts:
        data = read_named_part(store, version, f"concept/{concept.sku}")
        install_part(tools.engine, data, slot=None, tokens=concept.placeholder_tokens)


def recall_banks(
    tools: LearningTools,
    settings: LearningSettings,
    remembered: Sequence[RememberedConcept],
    class_noun: str,
    seed: int,
) -> tuple[LatentBank | None, LatentBank | None]:
    """Prior and short-term bank of a task on the shared slot; ``None`` where switched off."""
    from catalog_pipeline.learning.memory import prior_prompts, recall_exemplars, render_prior

    prior = exemplars = None
    if settings.prior_images and settings.losses.prior_weight:
        prompts = prior_prompts(settings.scenes, class_noun, settings.prior_images)
        prior = render_prior(tools.engine, prompts, tools.plan, seed)
    losses = settings.losses
    if remembered and (losses.replay_weight or losses.distillation_weight):
        exemplars = recall_exemplars(
            tools.engine,
            remembered,
            tools.encoder.encode,
            candidates=settings.replay_candidates,
            exemplars=settings.replay_exemplars,
            plan=tools.plan,
            seed=seed,
            selection=settings.replay_selection,
        )
    return prior, exemplars


def identifier_prompts(concept: Concept, templates: Sequence[str]) -> list[str]:
    """``templates`` with the concept's identifier in place of ``{concept}``."""
    return [template.format(concept=concept.identifier) for template in templates]
