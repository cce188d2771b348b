"""What a learning task is made of: models, the stored collection, masked photos, scenes, hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.records import (
    AdapterVersion,
    Concept,
    Photo,
    PhotoSet,
    Sku,
    memory_part,
)
from catalog_pipeline.settings import AdapterSettings, LearningSettings, LossSettings, Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.learn.empty_scenes import load_backdrops
from catalog_pipeline.workflows.models import read_named_part

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
    from catalog_pipeline.evaluation.features import FeatureEncoder
    from catalog_pipeline.evaluation.product_mask import ProductMasker
    from catalog_pipeline.learning.memory import RememberedConcept
    from catalog_pipeline.learning.methods.method import LifelongMethod


@dataclass(frozen=True)
class LearningTools:
    """The loaded models of one learning run."""

    engine: DiffusionEngine
    encoder: FeatureEncoder
    masker: ProductMasker
    plan: SamplingPlan


def open_tools(settings: Settings) -> LearningTools:
    """Load base, encoder and mask model; seconds on a CPU, so once a run."""
    from catalog_pipeline.evaluation.features import open_encoder
    from catalog_pipeline.evaluation.product_mask import ProductMasker
    from catalog_pipeline.workflows.models import base_size_plan, open_engine

    engine = open_engine(settings)
    plan = base_size_plan(engine, settings.generation)
    return LearningTools(engine, open_encoder(), ProductMasker(), plan)


def open_method(
    tools: LearningTools, settings: LearningSettings, objects: ObjectStore
) -> LifelongMethod:
    """The lifelong method that ``settings`` ask for, on the models of ``tools``."""
    from catalog_pipeline.learning.methods.method import LearningContext
    from catalog_pipeline.learning.methods.registry import shipped_method

    backdrops = load_backdrops(tools.engine, tools.plan, settings, objects)
    return shipped_method(
        LearningContext(tools.engine, settings, tools.encoder.encode, backdrops, tools.plan)
    )


@dataclass(frozen=True)
class StoredCollection:
    """What ``version`` knows besides the SKU ``learned``, which the task learns."""

    store: AdapterStore
    version: AdapterVersion | None
    learned: str

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """All but ``learned``."""
        known = self.version.concepts if self.version is not None else ()
        return tuple(concept for concept in known if concept.sku != self.learned)

    def part(self, name: str) -> bytes | None:
        """The bytes of a part, ``None`` when no task stored it."""
        if self.version is None or name not in self.version.parts:
            return None
        return self.store.read_part(self.version.parts[name])

    def remembered(self, concept: Concept) -> RememberedConcept:
        """Prompts and features of the part ``memory/<sku>``."""
        from catalog_pipeline.learning.memory import RememberedConcept

        assert self.version is not None
        entry = decode_memory(read_named_part(self.store, self.version, memory_part(concept.sku)))
        return RememberedConcept(concept, entry.prompts, entry.features)


_LATER = ("timestep_density", "loss_weighting", "aspect_buckets", "optimizer", "minutes_per_sku")
"""Settings of learning that came after the first published versions."""
_LATER_OF_ADAPTER = ("stored_bits", "stored_rank_tolerance", "consolidated_rank")
"""The same of its ``adapter``."""
_LATER_OF_LOSSES = ("drift_weight",)
"""The same of its ``losses``."""


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
        task=next_task(parent),
    )


def next_task(parent: AdapterVersion | None) -> int:
    """The number of the task after ``parent``, from 1; SKUs that were learned anew count again."""
    return 1 + max((concept.task for concept in parent.concepts), default=0) if parent else 1


def concept_config_hash(settings: LearningSettings, base_hash: str, encoder: str) -> str:
    """Changes when anything changes that the learned weights depend on, the photos apart.

    A setting of ``_LATER`` counts where it is not its default, so that what was learned by a
    version without it is not learned anew. ``steps`` counts where no minutes are set: it decides
    nothing else.
    """
    ours = settings.model_dump(mode="json")
    if settings.minutes_per_sku is not None:
        del ours["steps"]
    later = (
        (ours, LearningSettings, _LATER),
        (ours["adapter"], AdapterSettings, _LATER_OF_ADAPTER),
        (ours["losses"], LossSettings, _LATER_OF_LOSSES),
    )
    for values, kind, names in later:
        for name in names:
            if values[name] == kind.model_fields[name].default:
                del values[name]
    # The gate judges weights; a second try is made of the same inputs as the first.
    ours = {name: value for name, value in ours.items() if not name.startswith("gate_")}
    return canonical_sha256({"learning": ours, "base": base_hash, "encoder": encoder})


def photos_hash(photo_set: PhotoSet) -> str:
    """Changes when a photo or the class noun changes; other card fields do not train anything."""
    digests = sorted(photo.sha256 for photo in photo_set.photos)
    return canonical_sha256({"photos": digests, "class_noun": photo_set.sku.class_noun})


def with_masks(photos: Sequence[Photo], masker: ProductMasker) -> tuple[Photo, ...]:
    """``photos`` with a product mask each where the mask model finds a believable one."""
    from catalog_pipeline.evaluation.product_mask import with_mask

    return tuple(with_mask(photo, masker) for photo in photos)
