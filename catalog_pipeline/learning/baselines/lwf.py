"""Learning without forgetting: the old model's answers on the new data stay as they were."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import whole_image
from catalog_pipeline.learning.baselines.finetune import SHARED, Finetune
from catalog_pipeline.learning.baselines.method import NewConcept, Workshop
from catalog_pipeline.learning.objective import distillation_loss
from catalog_pipeline.learning.regulariser import Regulariser, StepContext
from catalog_pipeline.learning.task import TEACHER_SLOT

LWF_WEIGHT = 1.0
"""lambda_o of arXiv:1606.09282, Eq. (1), which sets 1 for most of its experiments."""
_TEMPLATE = "a photo of a {name}"


class LwfPenalty:
    """``||eps_teacher(z_t, c') - eps_theta(z_t, c')||^2`` on the new task's ``z_t``.

    ``c'`` names, at random, an earlier concept or (half of the time) the class alone.

    Args:
        teacher: the slot of the model before the task, ``None`` for the bare base.
        rows: how many of the batch's latents are asked.
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
        noisy = context.noisy_latents[: self._rows]
        times = context.timesteps[: self._rows]
        prompts = [self._prompt(context.generator) for _ in range(len(noisy))]
        engine = context.engine
        with torch.no_grad():
            hidden = engine.text.encode(prompts)[:, None]  # (rows, 1, tokens, width)
            route = whole_image([self._teacher] * len(noisy))
            teacher = engine.predict(noisy, times, hidden, None, route)
        route = whole_image([self._slot] * len(noisy))
        return distillation_loss(engine.predict(noisy, times, hidden, None, route), teacher)

    def _prompt(self, generator: torch.Generator) -> str:
        sides = torch.randint(2, (1,), generator=generator).item()
        if sides or not self._earlier:
            return _TEMPLATE.format(name=self._class_noun)
        index = int(torch.randint(len(self._earlier), (1,), generator=generator))
        return _TEMPLATE.format(name=self._earlier[index])


class Lwf(Finetune):
    """The shared slot under learning without forgetting, arXiv:1606.09282.

    **Differs from the paper:** the answers are noise predictions under earlier prompts
    and their distance is squared, where the paper has class scores and a
    cross-entropy; as many latents are asked as L2DM replays (``replay_batch_size``).
    The teacher of the first task is the bare base.
    """

    name = "lwf"

    def __init__(self, workshop: Workshop, weight: float = LWF_WEIGHT) -> None:
        super().__init__(workshop)
        self._weight = weight

    def _regularisers(self, new: NewConcept) -> tuple[Regulariser, ...]:
        teacher = None
        if self._learned:
            self._engine.adapter.copy_slot(SHARED, TEACHER_SLOT)
            teacher = TEACHER_SLOT
        penalty = LwfPenalty(
            SHARED,
            teacher,
            [item.concept.identifier for item in self._learned],
            new.concept.class_noun,
            max(1, self._settings.replay_batch_size),
            self._weight,
        )
        return (penalty,)
