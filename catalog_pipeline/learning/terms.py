"""The terms of Eq. (7), arXiv:2309.04430, for one step of a task."""

from __future__ import annotations

import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import Route, whole_image
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.distillation import ElasticWeights
from catalog_pipeline.learning.memory import LatentBank
from catalog_pipeline.learning.objective import distillation_loss, noise_loss
from catalog_pipeline.learning.pool import TrainingPool
from catalog_pipeline.learning.regulariser import StepContext
from catalog_pipeline.learning.task import TEACHER_SLOT, LearningTask, Subject
from catalog_pipeline.settings import LearningSettings


class LossTerms:
    """Computes the terms; every random number comes from the task's generator."""

    def __init__(
        self,
        engine: DiffusionEngine,
        settings: LearningSettings,
        task: LearningTask,
        pools: tuple[TrainingPool, ...],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._task = task
        self._pools = pools
        self._backdrops: dict[str, Tensor] = {}
        remembered = task.exemplars.concepts if task.exemplars is not None else ()
        self.elastic = ElasticWeights(remembered, settings.losses.elasticity)

    def of_step(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``(batch,)`` losses by name; regularisers come weighed as ``regulariser/<index>``."""
        task, settings = self._task, self._settings
        turn, index = divmod(step, len(task.subjects))
        subject, pool = task.subjects[index], self._pools[index]
        loss, context = self._concept_loss(subject, pool, turn, generator)
        terms = {"concept": loss}
        weights = settings.losses
        if task.prior is not None and settings.prior_batch_size and weights.prior_weight:
            rows = self._choose(task.prior, settings.prior_batch_size, generator)
            pred, target, _ = self._bank_pass(task.prior, rows, generator, taught=False)
            terms["prior"] = noise_loss(pred, target)
        if task.exemplars is not None and settings.replay_batch_size:
            terms |= self._memory_terms(task.exemplars, generator)
        for number, regulariser in enumerate(task.regularisers):
            terms[f"regulariser/{number}"] = regulariser.weight * regulariser.loss(context)
        return terms

    def _memory_terms(self, bank: LatentBank, generator: torch.Generator) -> dict[str, Tensor]:
        weights = self._settings.losses
        rows = self._choose(bank, self._settings.replay_batch_size, generator)
        distil = weights.distillation_weight > 0
        pred, target, teacher = self._bank_pass(bank, rows, generator, taught=distil)
        terms = {}
        if weights.replay_weight:
            terms["replay"] = noise_loss(pred, target)
        if teacher is not None:
            concepts = [bank.concepts[i] for i in rows.tolist()]
            terms["distillation"] = self.elastic.weigh(concepts, distillation_loss(pred, teacher))
        return terms

    def _concept_loss(
        self, subject: Subject, pool: TrainingPool, turn: int, generator: torch.Generator
    ) -> tuple[Tensor, StepContext]:
        group = pool.group(turn)
        chosen = group[torch.randint(len(group), (self._settings.batch_size,), generator=generator)]
        noisy, target, times = self.noised(pool.latents[chosen], generator)
        pred = self.predict(subject, pool, chosen, noisy, times)
        context = StepContext(self._engine, noisy, times, pred, generator)
        return noise_loss(pred, target, pool.weights[chosen]), context

    def predict(
        self, subject: Subject, pool: TrainingPool, chosen: Tensor, noisy: Tensor, times: Tensor
    ) -> Tensor:
        """The student's prediction on views ``chosen`` (all whole, or all split), noised."""
        batch = len(chosen)
        prompts = [pool.prompts[i].format(concept=subject.identifier) for i in chosen.tolist()]
        if pool.backdrop_prompts[int(chosen[0])] is None:
            hidden, masks = self._engine.text.encode(prompts)[:, None], None
            route = whole_image([subject.route] * batch)
        else:
            backdrops = [self._backdrop(pool.backdrop_prompts[i] or "") for i in chosen.tolist()]
            product = self._engine.text.encode(prompts)
            hidden = torch.stack([product, torch.stack(backdrops)], 1)  # (batch, regions, ...)
            region = pool.regions[chosen]
            masks = torch.cat([region, 1 - region], 1)
            route = Route(((subject.route, None),) * batch, masks)
        return self._engine.predict(noisy, times, hidden, masks, route)

    def _backdrop(self, prompt: str) -> Tensor:
        """A text without a concept, ``(tokens, width)``: nothing in it is ever trained."""
        if prompt not in self._backdrops:
            with torch.no_grad():
                self._backdrops[prompt] = self._engine.text.encode([prompt])[0]
        return self._backdrops[prompt]

    def _choose(self, bank: LatentBank, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(bank), (count,), generator=generator)

    def _bank_pass(
        self, bank: LatentBank, rows: Tensor, generator: torch.Generator, *, taught: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Student prediction, target and (if asked) teacher prediction on rows of ``bank``."""
        noisy, target, times = self.noised(bank.latents[rows], generator)
        slot, teacher = self._task.bank_slot, None
        with torch.no_grad():  # earlier tokens are frozen, and so is the text encoder
            hidden = self._engine.text.encode([bank.prompts[i] for i in rows.tolist()])[:, None]
            if taught:
                route = whole_image([TEACHER_SLOT] * len(rows))
                teacher = self._engine.predict(noisy, times, hidden, None, route)
        pred = self._engine.predict(noisy, times, hidden, None, whole_image([slot] * len(rows)))
        return pred, target, teacher

    def noised(
        self, latents: Tensor, generator: torch.Generator, shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, prediction target and timesteps, drawn on the CPU generator.

        ``shares`` ``(batch,)`` in [0, 1) fixes the timesteps as shares of the schedule.
        """
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        base = self._engine.base
        if shares is None:
            times = base.draw_timesteps(len(latents), generator)
        else:
            times = base.timesteps_at(shares)
        times = times.to(latents.device)
        noisy = base.add_noise(latents, noise, times)
        return noisy, base.target(latents, noise, times), times


class HeldOut:
    """A fixed question to the student: noised views that training never draws.

    The views come from the same photos, cut and placed anew; noise and
    timesteps are fixed, so that two answers differ by the weights alone.
    """

    def __init__(
        self, terms: LossTerms, subjects: tuple[Subject, ...], pools: tuple[TrainingPool, ...]
    ) -> None:
        self._terms = terms
        self._subjects = subjects
        self._pools = pools

    @torch.no_grad()
    def loss(self) -> float:
        """Mean noise loss over the views of all subjects."""
        total = []
        for subject, pool in zip(self._subjects, self._pools, strict=True):
            generator = torch.Generator().manual_seed(0)
            latents = pool.latents[pool.whole]
            # The middles of equal parts of the schedule, so that every noise level is asked.
            shares = (torch.arange(len(latents)) + 0.5) / len(latents)
            noisy, target, times = self._terms.noised(latents, generator, shares)
            pred = self._terms.predict(subject, pool, pool.whole, noisy, times)
            total.append(noise_loss(pred, target, pool.weights[pool.whole]).mean())
        return float(torch.stack(total).mean())
