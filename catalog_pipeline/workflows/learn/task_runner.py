"""One SKU's training run: inputs, training, quality gates, and the bytes to publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.errors import QualityGateError
from catalog_pipeline.records import (
    TRAINED_STEPS,
    AdapterVersion,
    Concept,
    Features,
    Palette,
    PhotoSet,
    Pixels,
)
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
    LearningTools,
    StoredCollection,
    with_masks,
)
from catalog_pipeline.workflows.learn.refused_candidates import (
    RefusedCandidate,
    before_after_sheet,
    keep_refused,
    shown_besides,
)
from catalog_pipeline.workflows.learn.second_try import RefusalNote, Try, second_try
from catalog_pipeline.workflows.models import check_same_base
from catalog_pipeline.workflows.progress import ProgressSink

if TYPE_CHECKING:
    from torch import Tensor

    from catalog_pipeline.learning.methods.collection import NewConcept
    from catalog_pipeline.learning.methods.method import LearnedTask, LifelongMethod


SHARED_ADVICE = (
    "look at them, then raise learning.yaml: losses.replay_weight or distillation_weight "
    "(prior_weight for base-only pictures), or the gate's tolerance if they look right, or use "
    "adapter.slots: per_concept"
)
IMPORT_ADVICE = (
    "compare base model and trigger word with those that the LoRA was trained with (--trigger, "
    "--embeddings), or learn the product from its photos"
)
EXACT_ADVICE = (
    "with adapter.slots: per_concept no other picture may change by one bit, so this is an error "
    "of the program or of the machine; please report it with these files"
)


@dataclass(frozen=True)
class LearnedPart:
    """What one finished task gives to the store; ``staged`` names what it no longer needs."""

    concept: Concept
    parts: Mapping[str, bytes]
    features: Features
    palette: Palette | None
    prompts: tuple[str, ...]
    loss_curve: list[tuple[int, float]]
    contact_sheet_png: bytes
    staged: tuple[str, ...]


@dataclass(frozen=True)
class _StagedCheckpoint:
    store: AdapterStore
    attempt: Try

    def read(self) -> bytes | None:
        return self.store.read_staging(self.attempt.checkpoint_name)

    def write(self, data: bytes) -> None:
        self.store.write_staging(self.attempt.checkpoint_name, data, self.attempt.sku)


@dataclass(frozen=True)
class _Candidate:
    """What one try gave, as it would be stored, and how it looks."""

    learned: LearnedTask
    fidelity: FidelityReport


@dataclass(frozen=True)
class GivenWeights:
    """What takes the place of training: a slot and its token rows.

    ``rows`` is ``None`` for those that training starts from; ``command`` gives them again.
    """

    slot: Mapping[str, Tensor]
    rows: Sequence[Tensor] | None
    command: str


@dataclass(frozen=True)
class TaskRunner:
    """Runs one task on loaded models; publishes nothing. With ``given`` weights it trains none."""

    settings: Settings
    objects: ObjectStore
    store: AdapterStore
    tools: LearningTools
    method: LifelongMethod
    progress: ProgressSink
    given: GivenWeights | None = None

    def run(
        self, parent: AdapterVersion | None, photo_set: PhotoSet, concept: Concept
    ) -> LearnedPart:
        """Train, judge and encode ``concept`` from ``photo_set`` on top of ``parent``.

        A candidate under which earlier SKUs or the base fell is trained once more from
        the parent's state with stronger memory. Safe to kill at any time: the task goes
        on with the try that it was at.

        Raises:
            LearningError: another base model, or a loss that is no number.
            QualityGateError: the candidate must not be promoted; it is in quarantine.
        """
        if parent is not None:
            check_same_base(parent, self.tools.engine.base.content_hash)
        tools, method, learning = self.tools, self.method, self.settings.learning
        new = self._new_concept(concept, photo_set)
        collection = StoredCollection(self.store, parent, concept.sku)
        method.open(collection)
        gate = open_gate(tools, method, concept, learning, self.objects)
        first = Try(concept.sku, method.task(new))
        note = RefusalNote(self.store, first, self._gate_hash(parent))
        attempt = note.read() or first
        while True:
            candidate = self._train(new, attempt)
            complaint = fidelity_complaint(candidate.fidelity, learning)
            if complaint:
                sheet = _sheet(new, candidate.fidelity)
                raise self._refused(parent, new, note, attempt, candidate, None, complaint, sheet)
            report = gate.judge()
            if report.passed:
                return self._learned(new, note, attempt, candidate, report)
            following = second_try(attempt, report, learning.gate_second_try_factor)
            if following is None:
                sheet, complaint = before_after_sheet(report), report.complaint()
                raise self._refused(parent, new, note, attempt, candidate, report, complaint, sheet)
            note.write(following)
            method.open(collection)
            attempt = following

    def _new_concept(self, concept: Concept, photo_set: PhotoSet) -> NewConcept:
        from catalog_pipeline.learning.methods.collection import NewConcept

        photos = with_masks(photo_set.photos, self.tools.masker)
        features = self.tools.encoder.encode([photo.pixels for photo in photos])
        return NewConcept(concept, photos, features)

    def _train(self, new: NewConcept, attempt: Try) -> _Candidate:
        from catalog_pipeline.learning.checkpoint import finished_steps

        learning = self.settings.learning
        if self.given is not None:
            learned = self.method.adopt(attempt.task, self.given.slot, self.given.rows)
            return _Candidate(learned, judge_new_concept(self.tools, self.method, new, learning))
        label = f"learn {attempt.sku}" + (", second try" if attempt.number > 1 else "")
        checkpoint = _StagedCheckpoint(self.store, attempt)
        done = finished_steps(checkpoint.read() or b"", attempt.task.fingerprint)
        # With minutes nobody knows the number before the pace is measured.
        total = learning.steps if learning.minutes_per_sku is None else 0
        self.progress.start(label, total, done)

        def advance(step: int, loss: float) -> None:
            nonlocal done
            self.progress.advance(label, step - done, f"loss {loss:.3f}")
            done = step

        def set_total(steps: int) -> None:
            self.progress.set_total(label, steps)

        learned = self.method.train(attempt.task, checkpoint, advance, set_total)
        self.progress.finish(label)
        return _Candidate(learned, judge_new_concept(self.tools, self.method, new, learning))

    def _learned(
        self,
        new: NewConcept,
        note: RefusalNote,
        attempt: Try,
        candidate: _Candidate,
        report: ForgettingReport,
    ) -> LearnedPart:
        from catalog_pipeline.evaluation.palettes import palette_of_photos
        from catalog_pipeline.learning.memory import MEMORY_PROMPTS

        curve = candidate.learned.loss_curve
        made = {"final_loss": curve[-1][1], "tries": float(attempt.number)} if curve else {}
        if curve and self.settings.learning.minutes_per_sku is not None:
            made[TRAINED_STEPS] = float(curve[-1][0])
        metrics = candidate.fidelity.metrics | report.metrics | made
        return LearnedPart(
            concept=_with_metrics(new.concept, metrics),
            parts=candidate.learned.parts,
            features=new.features,
            palette=palette_of_photos(new.photos),
            prompts=MEMORY_PROMPTS,
            loss_curve=curve,
            contact_sheet_png=_sheet(new, candidate.fidelity),
            staged=_staged(note, attempt),
        )

    def _refused(
        self,
        parent: AdapterVersion | None,
        new: NewConcept,
        note: RefusalNote,
        attempt: Try,
        candidate: _Candidate,
        report: ForgettingReport | None,
        complaint: str,
        sheet: bytes,
    ) -> QualityGateError:
        """Keeps the candidate apart; a later run of the task starts from its first step."""
        advice = FIDELITY_ADVICE if self.given is None else IMPORT_ADVICE
        if report is not None:
            advice = EXACT_ADVICE if report.exact else SHARED_ADVICE
        refused = RefusedCandidate(
            concept=new.concept,
            parent=parent,
            fingerprint=attempt.task.fingerprint,
            parts=candidate.learned.parts,
            picture_png=sheet,
            complaint=complaint,
            advice=advice,
            metrics=candidate.fidelity.metrics | (report.metrics if report else {}),
            tries=(*attempt.refused, attempt.figures(report)),
            again=f"learn {new.concept.sku}" if self.given is None else self.given.command,
            others=shown_besides(report) if report else (),
        )
        error = keep_refused(self.objects, self.store, refused, self.settings.learning)
        for name in _staged(note, attempt):
            self.store.delete_staging(name)
        return error

    def _gate_hash(self, parent: AdapterVersion | None) -> str:
        """Over what a report depends on besides the candidate's own inputs."""
        ours = self.settings.learning.model_dump(mode="json")
        gates = {name: value for name, value in ours.items() if name.startswith("gate_")}
        version = parent.version if parent else ""
        return canonical_sha256({"gates": gates, "parent": version, "plan": repr(self.tools.plan)})


def _with_metrics(concept: Concept, metrics: dict[str, float]) -> Concept:
    return replace(concept, metrics={k: round(float(v), 6) for k, v in sorted(metrics.items())})


def _staged(note: RefusalNote, attempt: Try) -> tuple[str, ...]:
    """What the task may have left in staging."""
    return (note.first.checkpoint_name, attempt.checkpoint_name, note.name)


def _sheet(new: NewConcept, report: FidelityReport) -> bytes:
    """Photos above, samples below."""
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png

    columns = max(1, min(8, len(report.samples)))
    photos: list[Pixels] = [np.asarray(photo.pixels) for photo in new.photos[:columns]]
    rows = [photos, report.samples[:columns]]
    captions = ["photos it was learned from", "drawn by what was learned"]
    return encode_png(contact_sheet(rows, captions=captions, cell_px=96), max_bytes=90_000)
