"""Elastic weight consolidation: important weights are held where earlier tasks left them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.baselines.finetune import SHARED, Finetune
from catalog_pipeline.learning.baselines.method import NewConcept, Workshop
from catalog_pipeline.learning.objective import noise_loss
from catalog_pipeline.learning.pool import TrainingPool, training_pool
from catalog_pipeline.learning.regulariser import Regulariser, StepContext
from catalog_pipeline.learning.task import LearningTask
from catalog_pipeline.learning.terms import LossTerms
from catalog_pipeline.settings import LearningSettings

EWC_WEIGHT = 1e4
"""Chosen on two toys of 40 steps on the embedded base, by the noise loss of the first
(0.354 after its own task) and of the second after the second task: weight 0: 0.374 and
0.440, 1e3: 0.369 and 0.440, 1e4: 0.357 and 0.442, 1e5: 0.351 and 0.448."""
EWC_DECAY = 1.0
"""gamma of online EWC; 1 forgets no task (arXiv:1805.06370 leaves it to choice)."""
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


class Ewc(Finetune):
    """The shared slot under online EWC: one Fisher and one anchor for all earlier tasks.

    After task ``k``: ``F = decay * F + F_k`` and ``theta* = theta`` (the gamma form,
    arXiv:1805.06370, section 4).

    **Differs from the paper:** ``F_k`` is the mean squared gradient of the noise loss
    on noised training views (the empirical Fisher of a Gaussian with that loss, up to a
    factor that the weight takes up), not of a classifier's log-likelihood.
    """

    name = "ewc"

    def __init__(
        self, workshop: Workshop, weight: float = EWC_WEIGHT, decay: float = EWC_DECAY
    ) -> None:
        super().__init__(workshop)
        self._weight = weight
        self._decay = decay
        self._fisher: list[Tensor] = []

    def _regularisers(self, new: NewConcept) -> tuple[Regulariser, ...]:
        if not self._fisher:
            return ()
        anchor = [p.detach().clone() for p in self._engine.adapter.parameters_of(SHARED)]
        return (EwcPenalty(SHARED, self._fisher, anchor, self._weight),)

    def _after(self, new: NewConcept, task: LearningTask) -> None:
        views = self._settings.latent_views
        pool = training_pool(self._engine, new.photos, task.backdrops, task.seed, views)
        seed = self._seed(new.concept.sku, purpose=1)
        found = diagonal_fisher(self._engine, self._settings, task, pool, FISHER_SAMPLES, seed)
        before = self._fisher or [torch.zeros_like(value) for value in found]
        self._fisher = [self._decay * a + b for a, b in zip(before, found, strict=True)]

    def _extra_state(self) -> dict[str, Tensor]:
        return {f"fisher/{i}": value.cpu().clone() for i, value in enumerate(self._fisher)}

    def _restore_extra(self, state: Mapping[str, Tensor]) -> None:
        count = sum(name.startswith("fisher/") for name in state)
        device = self._engine.base.device
        self._fisher = [state[f"fisher/{i}"].to(device).clone() for i in range(count)]


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
    terms = LossTerms(engine, settings, task, (pool,))
    parameters = engine.adapter.parameters_of(subject.slot)
    generator = torch.Generator().manual_seed(seed)
    total = [torch.zeros_like(p) for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    for _ in range(samples):
        chosen = torch.randint(len(pool.prompts), (1,), generator=generator)
        noisy, target, times = terms.noised(pool.latents[chosen], generator)
        pred = terms.predict(subject, pool, chosen, noisy, times)
        loss = noise_loss(pred, target, pool.weights[chosen]).sum()
        for sum_, grad in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            sum_ += grad**2
    for parameter in parameters:
        parameter.requires_grad_(False)
    return [value.detach() / samples for value in total]
