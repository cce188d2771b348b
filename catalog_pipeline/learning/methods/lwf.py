"""Learning without forgetting: the old model's predictions on the new data are kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import whole_image
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.learning.methods.shared_slot import SharedSlot
from catalog_pipeline.learning.objective import distillation_loss
from catalog_pipeline.learning.regulariser import Regulariser, StepContext
from catalog_pipeline.learning.task import TEACHER_SLOT
from catalog_pipeline.records import SHARED

LWF_WEIGHT = 1.0
"""lambda_o of arXiv:1606.09282, Eq. (1), which sets 1 for most of its experiments."""
_TEMPLATE = "a photo of a {name}"


class LwfPenalty:
    """``||eps_teacher(z_t, c') - eps_theta(z_t, c')||^2`` on the new task's ``z_t``.

    ``c'`` names, at random, an earlier concept or (half of the time) the class alone.

    Args:
        teacher: the slot of the model before the task, ``None`` for the bare base.
        rows: how many of the batch's latents are distilled on.
    """

    def __init__(
        self,
        slot: str,
        teacher: str | None,
        earlier: Sequence[str],
        class_noun: str,
        rows: int,
        weight: float,
    ) -> None:
        self._slot = slot
        self._teacher = teacher
        self._earlier = tuple(earlier)
        self._class_noun = class_noun
        self._rows = rows
        self.weight = weight

    def loss(self, context: StepContext) -> Tensor:
        """``(rows,)``."""
        engine, noisy_latents = context.engine, context.noisy_latents[: self._rows]
        timesteps, rows = context.timesteps[: self._rows], len(noisy_latents)
        prompts = [self._prompt(context.generator) for _ in range(rows)]
        with torch.no_grad():
            text = engine.text.encode(prompts)[:, None]  # (rows, 1, tokens, width)
            route = whole_image([self._teacher] * rows)
            teacher_pred = engine.predict(noisy_latents, timesteps, text, None, route)
        route = whole_image([self._slot] * rows)
        model_pred = engine.predict(noisy_latents, timesteps, text, None, route)
        return distillation_loss(model_pred, teacher_pred)

    def _prompt(self, generator: torch.Generator) -> str:
        sides = torch.randint(2, (1,), generator=generator).item()
        if sides or not self._earlier:
            return _TEMPLATE.format(name=self._class_noun)
        index = int(torch.randint(len(self._earlier), (1,), generator=generator))
        return _TEMPLATE.format(name=self._earlier[index])


class Lwf(SharedSlot):
    """The shared slot under learning without forgetting, arXiv:1606.09282.

    **Differs from the paper:** the outputs are noise predictions under earlier prompts
    and their distance is squared, where the paper has class scores and a
    cross-entropy; as many latents are distilled on as L2DM replays (``replay_batch_size``).
    The teacher of the first task is the bare base.
    """

    name = "lwf"

    def __init__(self, context: LearningContext, weight: float = LWF_WEIGHT) -> None:
        super().__init__(context)
        self._weight = weight

    def regularisers(self, news: Sequence[NewConcept]) -> tuple[Regulariser, ...]:
        """The distance to the slot before the task, or to the bare base in the first one."""
        teacher = None
        if self.learned:
            self.engine.adapter.copy_slot(SHARED, TEACHER_SLOT)
            teacher = TEACHER_SLOT
        penalty = LwfPenalty(
            SHARED,
            teacher,
            [concept.identifier for concept in self.learned],
            news[0].concept.class_noun,
            max(1, self.settings.replay_batch_size),
            self._weight,
        )
        return (penalty,)
