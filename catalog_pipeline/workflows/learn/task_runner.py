"""One SKU's training run: inputs, trainer, quality gates, and the bytes to publish."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from catalog_pipeline.errors import QualityGateError
from catalog_pipeline.records import AdapterVersion, Concept, Features, Palette, PhotoSet, Pixels
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.learn.fidelity_gate import (
    FIDELITY_ADVICE,
    FidelityReport,
    fidelity_complaint,
    judge_new_concept,
)
from catalog_pipeline.workflows.learn.forgetting_gate import open_gate
from catalog_pipeline.workflows.learn.forgetting_report import ForgettingReport
from catalog_pipeline.workflows.learn.learning_inputs import (
    SHARED,
    LearningTools,
    digest,
    draft_concept,
    install_shared,
    make_task,
)
from catalog_pipeline.workflows.learn.refused_candidates import (
    RefusedCandidate,
    before_after_sheet,
    quarantine,
)
from catalog_pipeline.workflows.learn.second_try import RefusalNote, Try, second_try
from catalog_pipeline.workflows.models import check_same_base
from catalog_pipeline.workflows.progress import ProgressSink

if TYPE_CHECKING:
    from catalog_pipeline.learning.task import Subject


SHARED_ADVICE = (
    "look at them, then raise learning.yaml: losses.replay_weight or distillation_weight "
    "(prior_weight for base-only pictures), or the gate's tolerance if they look right, or use "
    "adapter.slots: per_concept"
)
EXACT_ADVICE = (
    "with adapter.slots: per_concept no other picture may change by one bit, so this is an error "
    "of the program or of the machine; please report it with these files"
)


@dataclass(frozen=True)
class LearnedPart:
    """What one finished task gives to the store; ``staged`` names what it no longer needs."""

    concept: Concept
    concept_data: bytes
    shared_data: bytes | None
    features: Features
    palette: Palette | None
    prompts: tuple[str, ...]
    loss_curve: list[tuple[int, float]]
    contact_sheet_png: bytes
    staged: tuple[str, ...]


@dataclass(frozen=True)
class _StagedCheckpoint:
    store: AdapterStore
    name: str

    def read(self) -> bytes | None:
        return self.store.read_staging(self.name)

    def write(self, data: bytes) -> None:
        self.store.write_staging(self.name, data)


@dataclass(frozen=True)
class _Job:
    """What the tries of one task have in common."""

    parent: AdapterVersion | None
    concept: Concept
    subject: Subject
    features: Features


@dataclass(frozen=True)
class _Candidate:
    """What one try gave, as it would be stored, and how it looks."""

    concept_data: bytes
    shared_data: bytes | None
    curve: list[tuple[int, float]]
    result: FidelityReport


@dataclass(frozen=True)
class TaskRunner:
    """Runs one task on loaded models; publishes nothing."""

    settings: Settings
    objects: ObjectStore
    store: AdapterStore
    tools: LearningTools
    progress: ProgressSink

    @property
    def _shared(self) -> bool:
        return self.settings.learning.adapter.slots == "shared"

    def run(
        self, parent: AdapterVersion | None, photo_set: PhotoSet, photos: str, config: str
    ) -> LearnedPart:
        """Train, judge and encode the concept of ``photo_set`` on top of ``parent``.

        A candidate under which earlier SKUs or the base fell is trained once more from
        the parent's state with stronger memory. Safe to kill at any time: the task goes
        on with the try that it was at.

        Raises:
            LearningError: another base model, or a loss that is no number.
            QualityGateError: the candidate must not be promoted; it is in quarantine.
        """
        if parent is not None:
            check_same_base(parent, self.tools.engine.base.content_hash)
        learning = self.settings.learning
        count = learning.adapter.tokens_per_concept
        concept = draft_concept(parent, photo_set.sku, count, photos, config)
        task = make_task(self.tools, self.objects, self.store, learning, parent, concept, photo_set)
        gate = open_gate(self.tools, self.objects, self.store, parent, concept, learning)
        (subject,) = task.subjects
        features = self.tools.encoder.encode([photo.pixels for photo in subject.photos])
        job = _Job(parent, concept, subject, features)
        first = Try(concept.sku, task, learning)
        note = RefusalNote(self.store, first, self._gate_hash(parent))
        attempt = note.read() or first
        while True:
            candidate = self._train(job, attempt)
            complaint = fidelity_complaint(candidate.result, learning)
            if complaint:
                sheet = _sheet(subject, candidate.result)
                raise self._refused(job, note, attempt, candidate, None, complaint, sheet)
            verdict = gate.judge()
            if verdict.passed:
                return self._learned(job, note, attempt, candidate, verdict)
            following = second_try(attempt, verdict)
            if following is None:
                sheet = before_after_sheet(verdict)
                complaint = verdict.complaint()
                raise self._refused(job, note, attempt, candidate, verdict, complaint, sheet)
            note.write(following)
            install_shared(self.tools, self.store, parent)
            attempt = following

    def _train(self, job: _Job, attempt: Try) -> _Candidate:
        from catalog_pipeline.diffusion.parts import encode_part, install_part, slot_part
        from catalog_pipeline.learning.trainer import ConceptTrainer

        engine, settings, subject = self.tools.engine, attempt.settings, job.subject
        label = f"learn {attempt.sku}" + (", second try" if attempt.number > 1 else "")
        self.progress.start(label, settings.steps)
        curve = ConceptTrainer(engine, settings).train(
            attempt.task,
            _StagedCheckpoint(self.store, attempt.checkpoint_name),
            lambda step, loss: self.progress.advance(label, 1, f"loss {loss:.3f}"),
        )
        self.progress.finish(label)
        data = self._concept_bytes(job.concept, subject.slot)
        shared_data = encode_part(slot_part(engine, SHARED)) if self._shared else None
        # Judged is what will be stored, not what happens to be in memory.
        slot = None if self._shared else subject.slot
        install_part(engine, data, slot=slot, tokens=job.concept.placeholder_tokens)
        result = judge_new_concept(
            self.tools, job.concept, subject.slot, job.features, settings, subject.photos
        )
        return _Candidate(data, shared_data, curve, result)

    def _learned(
        self,
        job: _Job,
        note: RefusalNote,
        attempt: Try,
        candidate: _Candidate,
        verdict: ForgettingReport,
    ) -> LearnedPart:
        from catalog_pipeline.evaluation.palettes import palette_of_photos
        from catalog_pipeline.learning.memory import MEMORY_PROMPTS

        made = {"final_loss": candidate.curve[-1][1], "tries": float(attempt.number)}
        return LearnedPart(
            concept=_with_metrics(job.concept, candidate.result.metrics | verdict.metrics | made),
            concept_data=candidate.concept_data,
            shared_data=candidate.shared_data,
            features=job.features,
            palette=palette_of_photos(job.subject.photos),
            prompts=MEMORY_PROMPTS,
            loss_curve=candidate.curve,
            contact_sheet_png=_sheet(job.subject, candidate.result),
            staged=_staged(note, attempt),
        )

    def _refused(
        self,
        job: _Job,
        note: RefusalNote,
        attempt: Try,
        candidate: _Candidate,
        verdict: ForgettingReport | None,
        complaint: str,
        sheet: bytes,
    ) -> QualityGateError:
        """Puts the candidate in quarantine; a later run of the task starts from its first step."""
        advice = FIDELITY_ADVICE
        if verdict is not None:
            advice = EXACT_ADVICE if verdict.exact else SHARED_ADVICE
        refused = RefusedCandidate(
            concept=job.concept,
            parent=job.parent,
            fingerprint=attempt.task.fingerprint,
            concept_data=candidate.concept_data,
            shared_data=candidate.shared_data,
            picture_png=sheet,
            complaint=complaint,
            advice=advice,
            metrics=candidate.result.metrics | (verdict.metrics if verdict else {}),
            tries=(*attempt.refused, attempt.figures(verdict)),
        )
        error = quarantine(self.objects, self.store, refused, self.settings.learning)
        for name in _staged(note, attempt):
            self.store.delete_staging(name)
        return error

    def _gate_hash(self, parent: AdapterVersion | None) -> str:
        """Over what a verdict depends on besides the candidate's own inputs."""
        ours = self.settings.learning.model_dump(mode="json")
        gates = {name: value for name, value in ours.items() if name.startswith("gate_")}
        version = parent.version if parent else ""
        return digest({"gates": gates, "parent": version, "plan": repr(self.tools.plan)})

    def _concept_bytes(self, concept: Concept, slot: str) -> bytes:
        import torch

        from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part

        engine = self.tools.engine
        # A concept's own slot is final, so half precision costs nothing that bf16 sampling
        # would see; the shared slot is trained again and keeps full precision.
        slot_tensors = {} if self._shared else slot_part(engine, slot, torch.float16)
        return encode_part(slot_tensors | token_part(engine, concept.placeholder_tokens))


def _with_metrics(concept: Concept, metrics: dict[str, float]) -> Concept:
    return replace(concept, metrics={k: round(float(v), 6) for k, v in sorted(metrics.items())})


def _staged(note: RefusalNote, attempt: Try) -> tuple[str, ...]:
    """What the task may have left in staging."""
    return (note.first.checkpoint_name, attempt.checkpoint_name, note.name)


def _sheet(subject: Subject, result: FidelityReport) -> bytes:
    """Photos above, samples below."""
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png

    columns = max(1, min(8, len(result.samples)))
    photos: list[Pixels] = [np.asarray(photo.pixels) for photo in subject.photos[:columns]]
    rows = [photos, result.samples[:columns]]
    return encode_png(contact_sheet(rows, cell_px=96), max_bytes=90_000)
