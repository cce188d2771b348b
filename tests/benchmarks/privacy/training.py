"""One shared slot over many products, by the product line's own step, with DP-SGD or without.

A gradient a record needs no hooks: every record of a step passes through a slot of its own whose
tensors are those of the shared one, so one backward pass leaves each record's gradient in its slot.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.adapter import Route, whole_image
from catalog_pipeline.diffusion.routed_linear import slot_key
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.memory import derive_seed
from catalog_pipeline.learning.optimizer import make_optimizer
from catalog_pipeline.learning.pool import SizedViews
from catalog_pipeline.learning.privacy import noise_multiplier_for
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.records import SHARED, Concept
from catalog_pipeline.settings import LearningSettings
from tests.benchmarks.privacy.catalog import Records

log = logging.getLogger("bench")

TOGETHER = 16
"""Records that are computed at once; a larger batch is summed up."""


@dataclass(frozen=True)
class Recipe:
    """How a slot is trained; ``epsilon`` is ``None`` without DP-SGD.

    ``draws`` noise levels are drawn a record and step; its gradient is their mean, which costs no
    privacy (arXiv:2210.09929).
    """

    name: str
    epsilon: float | None
    steps: int
    batch: int
    learning_rate: float
    delta: float = 1e-5
    max_grad_norm: float = 1.0
    draws: int = 1

    def rate(self, records: int) -> float:
        """Of a record to be in a step."""
        return min(1.0, self.batch / records)

    def noise_multiplier(self, records: int) -> float:
        """Of the sum of the records' gradients; 0 without DP-SGD."""
        if self.epsilon is None:
            return 0.0
        return noise_multiplier_for(self.epsilon, self.rate(records), self.steps, self.delta)


class RecordStep(TrainingStep):
    """The loss of each row, every record of ``owners`` through a slot of its own."""

    owners: Sequence[int] | None = None

    def instance_prompts(
        self, subject: Subject, views: SizedViews, rows: Tensor
    ) -> tuple[Tensor, Tensor | None, Route]:
        """As of the step itself, with other slots in the route."""
        texts, masks, route = super().instance_prompts(subject, views, rows)
        if self.owners is not None:
            route = whole_image([_slot_of(owner) for owner in self.owners])
        return texts, masks, route


class SharedSlot:
    """A slot that all products share, on an engine of its own settings."""

    def __init__(self, engine: DiffusionEngine, settings: LearningSettings, seed: int) -> None:
        self._engine, self._seed = engine, seed
        engine.adapter.add_slot(SHARED, torch.Generator().manual_seed(seed))
        self._parameters = engine.adapter.parameters_of(SHARED)
        concept = Concept(SHARED, SHARED, "product", "", (), photos_hash="", task=1)
        self._subject = Subject(concept, (), SHARED)
        task = LearningTask((self._subject,), (), SHARED, seed)
        self._step = RecordStep(engine, settings, task, ())
        self._slots = list(self._add_record_slots(TOGETHER))
        self._settings = settings

    @property
    def numbers(self) -> int:
        """That are trained."""
        return sum(parameter.numel() for parameter in self._parameters)

    def train(self, records: Records, members: Sequence[int], recipe: Recipe) -> None:
        """Poisson-sampled batches of ``members``; clipped, noised, averaged over the expected."""
        sigma, rate = recipe.noise_multiplier(len(members)), recipe.rate(len(members))
        groups = [{"params": self._parameters, "weight_decay": 0.0, "lr": recipe.learning_rate}]
        optimizer = make_optimizer("adamw", groups)
        for number in range(recipe.steps):
            generator = torch.Generator().manual_seed(derive_seed(self._seed, recipe.name, number))
            drawn = torch.rand(len(members), generator=generator) < rate
            chosen = [members[i] for i in drawn.nonzero().flatten().tolist()]
            sums, loss = self._summed_gradients(records, chosen, recipe, generator)
            for parameter, total in zip(self._parameters, sums, strict=True):
                if sigma:
                    noise = torch.randn(total.shape, generator=generator).to(total.device)
                    total += sigma * recipe.max_grad_norm * noise
                parameter.grad = total / (rate * len(members))
            if not sigma:
                nn.utils.clip_grad_norm_(self._parameters, recipe.max_grad_norm)
            optimizer.step()
            self._engine.adapter.parameters_changed()
            if number % 20 == 19:
                log.info("%s: step %d, loss %.3f", recipe.name, number + 1, loss)

    def _summed_gradients(
        self, records: Records, chosen: Sequence[int], recipe: Recipe, generator: torch.Generator
    ) -> tuple[list[Tensor], float]:
        """Of the shared tensors, over ``chosen``; each record's is cut to its bound with DP-SGD."""
        sums = [torch.zeros_like(parameter) for parameter in self._parameters]
        losses = [0.0]
        for start in range(0, len(chosen), TOGETHER):
            some = chosen[start : start + TOGETHER]
            losses += self._gradients(records, some, recipe.draws, generator)
            grads = [
                torch.stack([self._slots[i][k].grad for i in range(len(some))])  # type: ignore[misc]
                for k in range(len(sums))
            ]
            scale = torch.ones(len(some))
            if recipe.epsilon is not None:
                norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)
                scale = (recipe.max_grad_norm / norms.clamp(min=1e-12)).clamp(max=1).cpu()
            for total, grad in zip(sums, grads, strict=True):
                total += torch.tensordot(scale.to(grad.device), grad, dims=1)
        return sums, sum(losses) / max(1, len(losses) - 1)

    def _gradients(
        self, records: Records, some: Sequence[int], draws: int, generator: torch.Generator
    ) -> list[float]:
        """Leaves the gradient of each of ``some`` in its slot; the losses."""
        owners = [i for i in range(len(some)) for _ in range(draws)]
        views = torch.randint(records.per_record, (len(owners),), generator=generator).tolist()
        rows = torch.tensor(
            [records.rows(some[i])[view] for i, view in zip(owners, views, strict=True)]
        )
        noise, timesteps = self._step.draw(records.views.latents[rows], generator)
        for slot in self._slots:
            for parameter in slot:
                parameter.grad = None
        self._step.owners = owners
        loss = self._step.loss_of_views(self._subject, records.views, rows, noise, timesteps)
        self._step.owners = None
        (loss.sum() / draws).backward()
        return loss.detach().tolist()

    @torch.no_grad()
    def losses(self, records: Records, chosen: Sequence[int], draws: int, seed: int) -> Tensor:
        """The mean loss of each of ``chosen``: all of its views, ``draws`` noise levels each.

        Noise and timesteps are the same for every slot that is asked.
        """
        generator = torch.Generator().manual_seed(seed)
        total = torch.zeros(len(chosen))
        shares = (torch.arange(draws) + 0.5) / draws
        for place, record in enumerate(chosen):
            rows = torch.tensor([row for row in records.rows(record) for _ in range(draws)])
            latents = records.views.latents[rows]
            noise = torch.randn(latents.shape, generator=generator).to(latents.device)
            levels = self._engine.base.timesteps_at(shares).to(latents.device)
            timesteps = levels.repeat(records.per_record)
            loss = self._step.loss_of_views(self._subject, records.views, rows, noise, timesteps)
            total[place] = loss.mean().cpu()
        return total

    def _add_record_slots(self, count: int) -> Iterator[list[nn.Parameter]]:
        """Slots whose tensors are the shared ones' own memory, with gradients of their own."""
        layers = self._engine.adapter.layers_of(SHARED).values()
        for owner in range(count):
            made = []
            for layer in layers:
                own = {k: nn.Parameter(p.data) for k, p in layer.tensors(SHARED).items()}
                layer.slots[slot_key(_slot_of(owner))] = nn.ParameterDict(own)
                made += own.values()
            yield made


def _slot_of(owner: int) -> str:
    return f"record {owner}"
