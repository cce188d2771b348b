"""Elastic weight consolidation: important weights are held where earlier tasks left them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from safetensors.torch import load
from torch import Tensor

from catalog_pipeline.diffusion.parts import encode_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.learning.methods.shared_slot import SharedSlot
from catalog_pipeline.learning.pool import TrainingPool, training_pool
from catalog_pipeline.learning.regulariser import Regulariser, StepContext
from catalog_pipeline.learning.task import LearningTask
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.records import SHARED
from catalog_pipeline.settings import LearningSettings

EWC_WEIGHT = 1e4
"""Chosen on two toys of 40 steps on the embedded base, by the noise loss of the first
(0.354 after its own task) and of the second after the second task: weight 0: 0.374 and
0.440, 1e3: 0.369 and 0.440, 1e4: 0.357 and 0.442, 1e5: 0.351 and 0.448."""
EWC_DECAY = 1.0
"""gamma of online EWC; 1 forgets no task (arXiv:1805.06370 leaves it to choice)."""
_FISHER = "fisher"
"""The stored part."""
FISHER_SAMPLES = 32
"""Noised views that the Fisher of a task is estimated on; one gradient each."""


class EwcPenalty:
    """``weight / 2 * sum_i F_i (theta_i - theta*_i)^2``: Eq. (3), arXiv:1612.00796.

    ``fisher`` and ``anchor`` have one tensor for each parameter of ``slot``, in the
    order of :meth:`ConceptAdapter.parameters_of`.
    """

    def __init__(
        self, slot: str, fisher: Sequence[Tensor], anchor: Sequence[Tensor], weight: float
    ) -> None:
        self._slot = slot
        self._fisher = tuple(fisher)
        self._anchor = tuple(anchor)
        self.weight = weight

    def loss(self, context: StepContext) -> Tensor:
        """``(1,)``."""
        parameters = context.engine.adapter.parameters_of(self._slot)
        moved = [
            (fisher * (parameter - anchor) ** 2).sum()
            for parameter, fisher, anchor in zip(
                parameters, self._fisher, self._anchor, strict=True
            )
        ]
        return 0.5 * torch.stack(moved).sum()[None]


class Ewc(SharedSlot):
    """The shared slot under online EWC: one Fisher and one anchor for all earlier tasks.

    After task ``k``: ``F = decay * F + F_k`` and ``theta* = theta`` (the gamma form,
    arXiv:1805.06370, section 4).

    **Differs from the paper:** ``F_k`` is the mean squared gradient of the noise loss
    on noised training views (the empirical Fisher of a Gaussian with that loss, up to a
    factor that the weight takes up), not of a classifier's log-likelihood.
    """

    name = "ewc"

    def __init__(
        self, context: LearningContext, weight: float = EWC_WEIGHT, decay: float = EWC_DECAY
    ) -> None:
        super().__init__(context)
        self._weight = weight
        self._decay = decay

    def regularisers(self, news: Sequence[NewConcept]) -> tuple[Regulariser, ...]:
        """The distance to where the last task left the slot, from the second task on."""
        fisher = self._fisher()
        if not fisher:
            return ()
        anchor = [p.detach().clone() for p in self.engine.adapter.parameters_of(SHARED)]
        return (EwcPenalty(SHARED, fisher, anchor, self._weight),)

    def parts(self, task: LearningTask) -> dict[str, bytes]:
        """Those of the shared slot, and ``fisher``."""
        (subject,), settings = task.subjects, self.settings
        pool = training_pool(
            self.engine,
            subject.photos,
            task.backdrops,
            task.seed,
            settings.latent_views,
            oblong=settings.aspect_buckets,
        )
        seed = self.seed(subject.concept.sku, purpose=1)
        found = diagonal_fisher(self.engine, self.settings, task, pool, FISHER_SAMPLES, seed)
        before = self._fisher() or [torch.zeros_like(value) for value in found]
        total = [self._decay * a + b for a, b in zip(before, found, strict=True)]
        data = encode_part({str(index): value for index, value in enumerate(total)})
        return super().parts(task) | {_FISHER: data}

    def _fisher(self) -> list[Tensor]:
        data = self.collection.part(_FISHER)
        stored = {} if data is None else load(data)
        return [stored[str(index)].to(self.engine.base.device) for index in range(len(stored))]


def diagonal_fisher(
    engine: DiffusionEngine,
    settings: LearningSettings,
    task: LearningTask,
    pool: TrainingPool,
    samples: int,
    seed: int,
) -> list[Tensor]:
    """``F_i = mean_n (d L_n / d theta_i)^2`` over ``samples`` single noised views.

    One view at a time: the square of a batch's mean gradient would be too small by
    about the batch size.

    Returns:
        One tensor for each parameter of the first subject's slot.
    """
    subject = task.subjects[0]
    step = TrainingStep(engine, settings, task, (pool,))
    parameters = engine.adapter.parameters_of(subject.slot)
    generator = torch.Generator().manual_seed(seed)
    total = [torch.zeros_like(p) for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    for _ in range(samples):
        views, row = pool.view(int(torch.randint(len(pool), (1,), generator=generator)))
        noise, timesteps = step.draw(views.latents[row], generator)
        loss = step.loss_of_views(subject, views, row, noise, timesteps).sum()
        for sum_, grad in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            sum_ += grad**2
    for parameter in parameters:
        parameter.requires_grad_(False)
    return [value.detach() / samples for value in total]
