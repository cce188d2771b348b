"""What all methods have in common: how a task is trained, and how its outcome is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from catalog_pipeline.diffusion.sampling import RegionalPrompt
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.baselines.method import NewConcept, Workshop
from catalog_pipeline.learning.memory import LatentBank, derive_seed
from catalog_pipeline.learning.regulariser import Regulariser
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.records import Concept


class NoCheckpoint:
    """A benchmark keeps whole tasks; inside one it starts again."""

    def read(self) -> bytes | None:
        """Nothing was kept."""
        return None

    def write(self, data: bytes) -> None:
        """Nothing is kept."""


class TaskSequence(ABC):
    """A method's tasks so far; subclasses say which slots they train and read.

    The seed of a task depends on ``(workshop.seed, sku)`` alone, and each step draws
    from a seed of its own: all methods see the same views, timesteps and noise of a
    concept, whatever its place in the order and whatever their other terms draw.
    """

    name = ""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._engine = workshop.engine
        self._settings = workshop.settings
        self._learned: list[NewConcept] = []

    # --- for subclasses --------------------------------------------------------

    @abstractmethod
    def _slots(self) -> Sequence[str]:
        """The slots that hold what was learned; the members of compounds, not these."""

    @abstractmethod
    def _slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        """The slot that ``prompt`` passes through."""

    def _extra_state(self) -> dict[str, Tensor]:
        """What the method carries besides slots and token rows."""
        return {}

    def _restore_extra(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`_extra_state`; slots and tokens are already in place."""
        del state  # nothing is carried beside them

    # --- tasks -----------------------------------------------------------------

    def _seed(self, sku: str, purpose: int = 0) -> int:
        return derive_seed(self._workshop.seed, sku, purpose)

    def _check(self, new: NewConcept) -> None:
        sku = new.concept.sku
        if any(item.concept.sku == sku for item in self._learned):
            raise LearningError(
                f"'{sku}' was learned before; expected a new SKU, give each concept once"
            )
        if not new.photos:
            raise LearningError(f"'{sku}' came without photos; expected at least one")

    def _train(
        self,
        subjects: Sequence[Subject],
        seed: int,
        *,
        prior: LatentBank | None = None,
        exemplars: LatentBank | None = None,
        regularisers: tuple[Regulariser, ...] = (),
    ) -> LearningTask:
        task = LearningTask(
            subjects=tuple(subjects),
            backdrops=self._workshop.backdrops,
            fingerprint=f"{self.name}|{seed}",
            seed=seed,
            prior=prior,
            exemplars=exemplars,
            regularisers=regularisers,
            seed_each_step=True,
        )
        ConceptTrainer(self._engine, self._settings).train(task, NoCheckpoint(), _ignore)
        return task

    def _remember(self, new: NewConcept) -> None:
        self._learned.append(replace(new, photos=()))

    # --- the protocol ------------------------------------------------------------

    def regional_prompt(self, template: str, concept: Concept | None) -> RegionalPrompt:
        """How to render ``template``; ``None`` renders it as a base-only prompt.

        Raises:
            LearningError: a concept that was not learned.
        """
        if concept is None:
            return RegionalPrompt((template,), (self._slot_of(template, None),))
        if all(item.concept.sku != concept.sku for item in self._learned):
            raise LearningError(
                f"'{concept.sku}' was not learned; expected one of "
                f"{[item.concept.sku for item in self._learned]}, learn it first"
            )
        prompt = template.format(concept=concept.identifier)
        return RegionalPrompt((prompt,), (self._slot_of(prompt, concept),))

    def state(self) -> Mapping[str, Tensor]:
        """``slot/<slot>/<tensor>``, ``token/<token>`` and the method's own, on the CPU."""
        tensors = self._extra_state()
        for slot in self._slots():
            for name, value in self._engine.adapter.slot_tensors(slot).items():
                tensors[f"slot/{slot}/{name}"] = value
        for token in self._tokens():
            row = self._engine.text.table.parameter_of(token)
            tensors[f"token/{token}"] = row.detach().cpu().clone()
        return tensors

    def restore(self, state: Mapping[str, Tensor], learned: tuple[NewConcept, ...]) -> None:
        """Go on from ``state`` in a fresh engine; ``learned`` in order, photos not needed."""
        self._learned = [replace(new, photos=()) for new in learned]
        for slot in self._slots():
            prefix = f"slot/{slot}/"
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            # Copies: a task trains the installed tensors in place.
            self._engine.adapter.load_slot(slot, {k: v.clone() for k, v in own.items()})
        for token in self._tokens():
            self._engine.text.load({token: state[f"token/{token}"]})
            self._engine.text.table.parameter_of(token).requires_grad_(False)
        self._restore_extra(state)

    def _tokens(self) -> list[str]:
        return [t for item in self._learned for t in item.concept.placeholder_tokens]


def _ignore(step: int, loss: float) -> None:
    """No one watches the steps of a benchmark."""
