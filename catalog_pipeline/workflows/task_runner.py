"""One SKU's training run: inputs, trainer, quality gate, and the bytes to publish."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from catalog_pipeline.records import AdapterVersion, Concept, Features, PhotoSet, Pixels
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.gate import (
    GateResult,
    judge_new_concept,
    require_fidelity,
    require_retention,
)
from catalog_pipeline.workflows.learning_inputs import (
    SHARED,
    LearningTools,
    install_shared,
    load_backdrops,
    recall_banks,
    remembered_concepts,
    with_masks,
)
from catalog_pipeline.workflows.models import check_same_base
from catalog_pipeline.workflows.progress import ProgressSink

if TYPE_CHECKING:
    from catalog_pipeline.learning.memory import RememberedConcept
    from catalog_pipeline.learning.task import LearningTask


@dataclass(frozen=True)
class LearnedPart:
    """What one finished task gives to the store."""

    concept: Concept
    concept_data: bytes
    shared_data: bytes | None
    features: Features
    prompts: tuple[str, ...]
    loss_curve: list[tuple[int, float]]
    contact_sheet_png: bytes
    checkpoint_name: str


@dataclass(frozen=True)
class _StagedCheckpoint:
    store: AdapterStore
    name: str

    def read(self) -> bytes | None:
        return self.store.read_staging(self.name)

    def write(self, data: bytes) -> None:
        self.store.write_staging(self.name, data)


@dataclass(frozen=True)
class TaskRunner:
    """Runs one task on loaded models; publishes nothing."""

    settings: Settings
    objects: ObjectStore
    store: AdapterStore
    tools: LearningTools
    progress: ProgressSink

    def run(
        self, parent: AdapterVersion | None, photo_set: PhotoSet, photos: str, config: str
    ) -> LearnedPart:
        """Train, judge and encode the concept of ``photo_set`` on top of ``parent``.

        Raises:
            LearningError: another base model, or a loss that is no number.
            QualityGateError: the candidate must not be promoted.
        """
        from catalog_pipeline.diffusion.parts import encode_part, slot_part
        from catalog_pipeline.learning.memory import MEMORY_PROMPTS
        from catalog_pipeline.learning.trainer import ConceptTrainer

        engine, learning = self.tools.engine, self.settings.learning
        if parent is not None:
            check_same_base(parent, engine.base.content_hash)
        shared = learning.adapter.slots == "shared"
        concept = self._draft(parent, photo_set, photos, config)
        task, remembered = self._task(parent, photo_set, concept, shared)
        name = f"{concept.sku}-{task.fingerprint[:16]}.safetensors"
        label = f"learn {concept.sku}"
        self.progress.start(label, learning.steps)
        curve = ConceptTrainer(engine, learning).train(
            task,
            _StagedCheckpoint(self.store, name),
            lambda step, loss: self.progress.advance(label, 1, f"loss {loss:.3f}"),
        )
        self.progress.finish(label)
        (subject,) = task.subjects
        concept_data = self._concept_bytes(concept, subject.slot, shared)
        shared_data = encode_part(slot_part(engine, SHARED)) if shared else None
        features = self.tools.encoder.encode([photo.pixels for photo in subject.photos])
        result = self._judge(concept, concept_data, subject.slot, features, photo_set, shared)
        retention = require_retention(self.tools, remembered, learning) if shared else {}
        metrics = result.metrics | retention | {"final_loss": curve[-1][1]}
        return LearnedPart(
            concept=_with_metrics(concept, metrics),
            concept_data=concept_data,
            shared_data=shared_data,
            features=features,
            prompts=MEMORY_PROMPTS,
            loss_curve=curve,
            contact_sheet_png=_sheet([p.pixels for p in subject.photos], result.samples),
            checkpoint_name=name,
        )

    def _draft(
        self, parent: AdapterVersion | None, photo_set: PhotoSet, photos: str, config: str
    ) -> Concept:
        from catalog_pipeline.diffusion.text import placeholder_tokens

        card, count = photo_set.sku, self.settings.learning.adapter.tokens_per_concept
        return Concept(
            sku=card.sku,
            name=card.name,
            class_noun=card.class_noun,
            category=card.category,
            placeholder_tokens=placeholder_tokens(card.sku, count),
            photos_hash=photos,
            config_hash=config,
            task=1 + max((c.task for c in parent.concepts), default=0) if parent else 1,
        )

    def _task(
        self,
        parent: AdapterVersion | None,
        photo_set: PhotoSet,
        concept: Concept,
        shared: bool,
    ) -> tuple[LearningTask, list[RememberedConcept]]:
        from catalog_pipeline.learning.memory import derive_seed
        from catalog_pipeline.learning.task import LearningTask, Subject

        learning = self.settings.learning
        seed = derive_seed(learning.seed, concept.sku, 0)
        prior = exemplars = None
        remembered: list[RememberedConcept] = []
        if shared:
            install_shared(self.tools, self.store, parent)
            if parent is not None:
                remembered = remembered_concepts(self.store, parent, learning, concept.sku)
            prior, exemplars = recall_banks(
                self.tools, learning, remembered, concept.class_noun, seed
            )
        origin = parent.parts.get(SHARED, "") if parent is not None and shared else ""
        inputs = f"{concept.sku}|{concept.photos_hash}|{concept.config_hash}|{origin}"
        subject = Subject(
            class_noun=concept.class_noun,
            photos=with_masks(photo_set.photos, self.tools.masker),
            slot=SHARED if shared else concept.sku,
            placeholder_tokens=concept.placeholder_tokens,
            fresh_slot=not shared or parent is None,
        )
        task = LearningTask(
            subjects=(subject,),
            backdrops=load_backdrops(self.tools, learning, self.objects),
            fingerprint=hashlib.sha256(inputs.encode()).hexdigest(),
            seed=seed,
            prior=prior,
            exemplars=exemplars,
        )
        return task, remembered

    def _concept_bytes(self, concept: Concept, slot: str, shared: bool) -> bytes:
        import torch

        from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part

        engine = self.tools.engine
        # A concept's own slot is final, so half precision costs nothing that bf16 sampling
        # would see; the shared slot is trained again and keeps full precision.
        slot_tensors = {} if shared else slot_part(engine, slot, torch.float16)
        return encode_part(slot_tensors | token_part(engine, concept.placeholder_tokens))

    def _judge(
        self,
        concept: Concept,
        concept_data: bytes,
        slot: str,
        features: Features,
        photo_set: PhotoSet,
        shared: bool,
    ) -> GateResult:
        from catalog_pipeline.diffusion.parts import install_part

        learning = self.settings.learning
        # Judged is what will be stored, not what happens to be in memory.
        install_part(
            self.tools.engine,
            concept_data,
            slot=None if shared else slot,
            tokens=concept.placeholder_tokens,
        )
        result = judge_new_concept(self.tools, concept, slot, features, learning, photo_set.photos)
        require_fidelity(concept.sku, result, learning)
        return result


def _with_metrics(concept: Concept, metrics: dict[str, float]) -> Concept:
    return replace(concept, metrics={k: round(float(v), 6) for k, v in sorted(metrics.items())})


def _sheet(photos: list[Pixels], samples: list[Pixels]) -> bytes:
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png

    columns = max(1, min(8, len(samples)))
    shown = [np.asarray(p) for p in photos[:columns]]
    return encode_png(contact_sheet([shown, samples[:columns]], cell_px=96), max_bytes=90_000)
