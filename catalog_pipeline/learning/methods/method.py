"""A lifelong method: what ships and what is compared with it are the same objects."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.diffusion.parts import install_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.learning.checkpoint import Checkpoint, LossCurve
from catalog_pipeline.learning.memory import Encode, LatentBank, derive_seed
from catalog_pipeline.learning.methods.collection import Collection, HeldCollection, NewConcept
from catalog_pipeline.learning.regulariser import Regulariser
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.records import Concept, concept_part
from catalog_pipeline.settings import LearningSettings


@dataclass(frozen=True)
class LearningContext:
    """What all methods share: one engine, one set of settings, one encoder, the same scenes."""

    engine: DiffusionEngine
    settings: LearningSettings
    encode: Encode
    backdrops: tuple[Backdrop, ...]
    plan: SamplingPlan


@dataclass(frozen=True)
class LearnedTask:
    """What a finished task gives: ``parts`` to store by name, and its loss over steps."""

    parts: dict[str, bytes]
    loss_curve: LossCurve


class LifelongMethod(ABC):
    """Learns concepts one task after the other; says what it trains, keeps, reads and stores.

    A task is :meth:`open`, :meth:`task` and :meth:`train`. All that a method carries from
    one to the next is in the parts that it stores, so :meth:`open` in another process
    goes on with the same tensors. The seed of a task depends on ``(settings.seed, sku)``
    alone: all methods see the same views, timesteps and noise of a concept, whatever its
    place in the order.
    """

    name = ""
    """In the table of the benchmark."""
    exact = False
    """Whether no task may change an earlier or a base-only picture, not even by one bit."""
    at_once = False
    """Whether all concepts come in one task: an upper bound, not lifelong."""

    def __init__(self, context: LearningContext) -> None:
        self.context = context
        self.engine = context.engine
        self.settings = context.settings
        self.losses = context.settings.losses
        self.collection: Collection = HeldCollection()
        self.learned: list[Concept] = []

    # --- what a method decides ---------------------------------------------------

    @abstractmethod
    def subjects(self, news: Sequence[NewConcept]) -> tuple[Subject, ...]:
        """The slot that each of ``news`` trains, fresh or as it is."""

    @abstractmethod
    def slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        """The slot that ``prompt`` passes through; it names ``concept``, or none learned."""

    @abstractmethod
    def parts(self, task: LearningTask) -> dict[str, bytes]:
        """What is stored of ``task``, just trained, while its photos are still at hand."""

    def foundation(self) -> Sequence[str]:
        """The stored parts that the training of the next task depends on."""
        return ()

    @abstractmethod
    def install_foundation(self) -> None:
        """Bring an engine without slots to where the next task starts."""

    def install(self, concept: Concept) -> bool:
        """Whether an earlier concept can be rendered; its weights are in the engine then."""
        del concept  # where the foundation holds everything
        return True

    def reads(self, concept: Concept, templates: Sequence[str]) -> bool:
        """Whether the base reads these prompts of ``concept`` whole.

        Not so of one that an earlier release learned from prompts that were cut: it is left
        out of what is rendered, so that learning others goes on.
        """
        prompts = [template.format(concept=concept.identifier) for template in templates]
        return self.engine.text.prompts.fits(prompts)

    def banks(self, new: NewConcept, seed: int) -> tuple[LatentBank | None, LatentBank | None]:
        """Prior and short-term bank of a task; ``None`` for one that no term reads."""
        return None, None

    def regularisers(self, news: Sequence[NewConcept]) -> tuple[Regulariser, ...]:
        """Further terms of a task's loss."""
        return ()

    # --- a task ------------------------------------------------------------------

    def open(self, collection: Collection) -> None:
        """Bring the engine to the state after the last task of ``collection``.

        Raises:
            LearningError: the collection was learned in a way that this one cannot go on with.
        """
        for slot in self.engine.adapter.slots:
            self.engine.adapter.drop_slot(slot)
        self.collection = collection
        self.learned = list(collection.concepts)
        try:
            self.install_foundation()
        except ValueError as error:
            raise LearningError(f"cannot go on from the collection: {error}") from error

    def task(self, *news: NewConcept) -> LearningTask:
        """The task that learns ``news``; renders its banks.

        Raises:
            LearningError: no concept, one that is known, or one without photos.
        """
        self._check(news)
        seed = self.seed(news[0].concept.sku)
        prior, exemplars = self.banks(news[0], seed)
        regularisers = self.regularisers(news)  # they see the slots as the last task left them
        return LearningTask(
            subjects=self.subjects(news),
            backdrops=self.context.backdrops,
            fingerprint=self._fingerprint(news, exemplars),
            seed=seed,
            losses=self.losses,
            prior=prior,
            exemplars=exemplars,
            regularisers=regularisers,
        )

    def train(
        self,
        task: LearningTask,
        checkpoint: Checkpoint | None = None,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
        on_length: Callable[[int], None] = lambda steps: None,
    ) -> LearnedTask:
        """Train ``task``; the engine then holds what is to be stored, not what was trained.

        Resumes from ``checkpoint`` where it holds a state of this very task. ``on_step`` and
        ``on_length`` as in :meth:`ConceptTrainer.train`.

        Raises:
            LearningError: the loss is no longer a number.
        """
        trainer = ConceptTrainer(self.engine, self.settings)
        curve = trainer.train(task, checkpoint, on_step, on_length)
        return self._finished(task, curve)

    def adopt(
        self, task: LearningTask, slot: Mapping[str, Tensor], rows: Sequence[Tensor] | None
    ) -> LearnedTask:
        """As :meth:`train`, with given weights in place of trained ones.

        Args:
            task: of one subject, with a slot of its own.
            slot: ``{layer}.{tensor}`` of the parametrisation.
            rows: ``(width,)`` of each placeholder token; ``None`` for those that training
                starts from.

        Raises:
            LearningError: the weights do not fit the adapter or the text encoder.
        """
        (subject,) = task.subjects
        tokens, text = subject.concept.placeholder_tokens, self.engine.text
        try:
            self.engine.adapter.load_slot(subject.slot, slot)
            if rows is None:
                generator = torch.Generator().manual_seed(task.seed)
                text.start(tokens, subject.concept.class_noun, generator)
            else:
                text.load(dict(zip(tokens, rows, strict=True)))
        except ValueError as error:
            raise LearningError(f"the given weights do not fit: {error}") from error
        return self._finished(task, [])

    def _finished(self, task: LearningTask, curve: LossCurve) -> LearnedTask:
        parts = self.parts(task)
        for subject in task.subjects:
            concept = subject.concept
            data, tokens = parts[concept_part(concept.sku)], concept.placeholder_tokens
            install_part(self.engine, data, slot=subject.slot, tokens=tokens)
            if concept not in self.learned:
                self.learned.append(concept)
        return LearnedTask(parts, curve)

    def regional_prompt(self, template: str, concept: Concept | None) -> RegionalPrompt:
        """How to render ``template`` (with ``{concept}``); ``None`` makes it a base-only prompt.

        Raises:
            LearningError: a concept that was not learned, or with another adapter.
        """
        if concept is None:
            return RegionalPrompt((template,), (self.slot_of(template, None),))
        known = [item.sku for item in self.learned]
        if concept.sku not in known or not self.install(concept):
            raise LearningError(
                f"'{concept.sku}' was not learned, or not with this adapter; expected one of "
                f"{known}, learn it first"
            )
        prompt = template.format(concept=concept.identifier)
        return RegionalPrompt((prompt,), (self.slot_of(prompt, concept),))

    def seed(self, sku: str, purpose: int = 0) -> int:
        """Of the task that learns ``sku``, or of another ``purpose`` in it."""
        return derive_seed(self.settings.seed, sku, purpose)

    def _check(self, news: Sequence[NewConcept]) -> None:
        if not news:
            raise LearningError("got no concept; expected at least one to learn")
        known = {concept.sku for concept in self.learned}
        for new in news:
            if new.concept.sku in known:
                raise LearningError(
                    f"'{new.concept.sku}' was learned before; expected a new SKU, "
                    "give each concept once"
                )
            if not new.photos:
                raise LearningError(f"'{new.concept.sku}' has no photos; expected at least one")
            known.add(new.concept.sku)

    def _fingerprint(self, news: Sequence[NewConcept], exemplars: LatentBank | None) -> str:
        parts = {name: self.collection.part(name) or b"" for name in self.foundation()}
        concepts = [(c.sku, c.photos_hash, c.config_hash) for c in (new.concept for new in news)]
        return canonical_sha256(
            {
                "method": self.name,
                "seed": self.settings.seed,
                "concepts": concepts,
                # A retired concept leaves the bank, while the shared slot stays as it was.
                "remembered": exemplars.concepts if exemplars is not None else (),
                "foundation": {k: hashlib.sha256(data).hexdigest() for k, data in parts.items()},
            }
        )
