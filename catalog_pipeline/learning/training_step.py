"""One step of a task, from the latents of photos to the weighed loss of Eq. (7).

arXiv:2309.04430::

    L = L_SD + lambda L_PR + alpha sum_l L_replay(l) + gamma sum_l w_l L_distil(l) + further terms
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import Route, whole_image
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.distillation import ElasticWeights
from catalog_pipeline.learning.objective import distillation_loss, noise_loss, total_loss
from catalog_pipeline.learning.pool import SizedViews, TrainingPool
from catalog_pipeline.learning.regulariser import StepContext
from catalog_pipeline.learning.task import TEACHER_SLOT, LearningTask, Subject
from catalog_pipeline.settings import LearningSettings


class TrainingStep:
    """The loss of each step of a task; ``pools`` hold the encoded photos of its subjects."""

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
        self._frozen_text: dict[str, Tensor] = {}
        remembered = task.exemplars.concepts if task.exemplars is not None else ()
        self.elastic = ElasticWeights(remembered, task.losses.elasticity)

    def __call__(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of ``step``, a scalar, and its terms, ``(batch,)`` each, by name.

        Every random number comes from ``generator``. Regularisers come weighed.
        """
        engine, base = self._engine, self._engine.base
        task, settings = self._task, self._settings
        losses, prior, exemplars = task.losses, task.prior, task.exemplars
        turn, index = divmod(step, len(task.subjects))
        subject, pool = task.subjects[index], self._pools[index]

        # The new photos: ||target - model_pred||^2, L_SD of Eq. (3).
        views, group = pool.group(turn, generator)
        rows = group[torch.randint(len(group), (settings.batch_size,), generator=generator)]
        latents = views.latents[rows]  # (batch, channels, h, w)
        noise, timesteps = self.draw(latents, generator)
        noisy_latents = base.add_noise(latents, noise, timesteps)
        target = base.target(latents, noise, timesteps)
        encoder_hidden_states, masks, route = self.instance_prompts(subject, views, rows)
        model_pred = engine.predict(noisy_latents, timesteps, encoder_hidden_states, masks, route)
        loss = noise_loss(model_pred, target, views.weights[rows])
        terms = {"concept": self._weigh(loss, timesteps)}
        context = StepContext(engine, noisy_latents, timesteps, model_pred, generator)

        # Pictures of the bare base: the same on what it rendered, L_PR of Eqs. (3) and (4).
        if prior is not None and losses.prior_weight:
            rows = torch.randint(len(prior), (settings.prior_batch_size,), generator=generator)
            latents, route = prior.latents[rows], whole_image([task.bank_slot] * len(rows))
            noise, timesteps = self.draw(latents, generator)
            noisy_latents = base.add_noise(latents, noise, timesteps)
            target = base.target(latents, noise, timesteps)
            encoder_hidden_states = self.frozen_text([prior.prompts[i] for i in rows.tolist()])
            model_pred = engine.predict(
                noisy_latents, timesteps, encoder_hidden_states, None, route
            )
            terms["prior"] = self._weigh(noise_loss(model_pred, target), timesteps)

        # Remembered concepts: the same on exemplars, first term of Eq. (4), and
        # w_l ||teacher_pred - model_pred||^2, Eq. (6).
        if exemplars is not None and (losses.replay_weight or losses.distillation_weight):
            rows = torch.randint(len(exemplars), (settings.replay_batch_size,), generator=generator)
            latents, route = exemplars.latents[rows], whole_image([task.bank_slot] * len(rows))
            noise, timesteps = self.draw(latents, generator)
            noisy_latents = base.add_noise(latents, noise, timesteps)
            target = base.target(latents, noise, timesteps)
            encoder_hidden_states = self.frozen_text([exemplars.prompts[i] for i in rows.tolist()])
            model_pred = engine.predict(
                noisy_latents, timesteps, encoder_hidden_states, None, route
            )
            if losses.replay_weight:
                terms["replay"] = self._weigh(noise_loss(model_pred, target), timesteps)
            if losses.distillation_weight:
                teacher = whole_image([TEACHER_SLOT] * len(rows))
                with torch.no_grad():
                    teacher_pred = engine.predict(
                        noisy_latents, timesteps, encoder_hidden_states, None, teacher
                    )
                terms["distillation"] = self.elastic.weigh(
                    [exemplars.concepts[i] for i in rows.tolist()],
                    distillation_loss(model_pred, teacher_pred),
                )

        for number, regulariser in enumerate(task.regularisers):
            terms[f"regulariser/{number}"] = regulariser.weight * regulariser.loss(context)
        return total_loss(terms, losses), terms

    def loss_of_views(
        self, subject: Subject, views: SizedViews, rows: Tensor, noise: Tensor, timesteps: Tensor
    ) -> Tensor:
        """The concept's term ``(batch,)`` on ``rows`` of ``views``, noised like this."""
        base, latents = self._engine.base, views.latents[rows]
        noisy_latents = base.add_noise(latents, noise, timesteps)
        target = base.target(latents, noise, timesteps)
        encoder_hidden_states, masks, route = self.instance_prompts(subject, views, rows)
        model_pred = self._engine.predict(
            noisy_latents, timesteps, encoder_hidden_states, masks, route
        )
        return self._weigh(noise_loss(model_pred, target, views.weights[rows]), timesteps)

    @torch.no_grad()
    def heldout_loss(self, subject: Subject, pool: TrainingPool) -> float:
        """The mean concept loss on the whole-image views of ``pool``, which is never trained on.

        Noise and timesteps are fixed, so that two values differ by the weights alone.
        """
        generator, losses = torch.Generator().manual_seed(0), []
        for views in pool.sizes:
            if not len(views.whole):
                continue
            latents = views.latents[views.whole]
            noise, _ = self.draw(latents, generator)
            # The middles of equal parts of the schedule, so that every noise level is covered.
            shares = (torch.arange(len(latents)) + 0.5) / len(latents)
            timesteps = self._engine.base.timesteps_at(shares).to(latents.device)
            losses.append(self.loss_of_views(subject, views, views.whole, noise, timesteps))
        return float(torch.cat(losses).mean())

    def draw(self, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise like ``latents`` and timesteps ``(batch,)``, both drawn on the CPU."""
        noise = torch.randn(latents.shape, generator=generator)
        density = self._settings.timestep_density
        timesteps = self._engine.base.draw_timesteps(len(latents), generator, density)
        return noise.to(latents.device), timesteps.to(latents.device)

    def _weigh(self, loss: Tensor, timesteps: Tensor) -> Tensor:
        """``loss`` ``(batch,)`` times its weight at ``timesteps``."""
        return loss * self._engine.base.loss_weights(timesteps, self._settings.loss_weighting)

    def instance_prompts(
        self, subject: Subject, views: SizedViews, rows: Tensor
    ) -> tuple[Tensor, Tensor | None, Route]:
        """What ``rows`` (all whole, or all split) say of ``subject``, and where its slot acts.

        Returns:
            ``encoder_hidden_states`` ``(batch, regions, tokens, width)``, masks
            ``(batch, regions, h, w)`` or ``None``, and the route.
        """
        name = subject.concept.identifier
        prompts = [views.instance_prompts[i].format(concept=name) for i in rows.tolist()]
        product = self._engine.text.encode(prompts)
        backdrops = [views.backdrop_prompts[i] for i in rows.tolist()]
        if backdrops[0] is None:
            return product[:, None], None, whole_image([subject.route] * len(rows))
        scene = self.frozen_text([prompt or "" for prompt in backdrops])
        masks = torch.cat([views.regions[rows], 1 - views.regions[rows]], 1)
        route = Route(((subject.route, None),) * len(rows), masks)
        return torch.cat([product[:, None], scene], 1), masks, route

    @torch.no_grad()
    def frozen_text(self, prompts: Sequence[str]) -> Tensor:
        """``(prompts, 1, tokens, width)`` of texts whose tokens are not trained: encoded once."""
        for prompt in prompts:
            if prompt not in self._frozen_text:
                self._frozen_text[prompt] = self._engine.text.encode([prompt])[0]
        return torch.stack([self._frozen_text[prompt] for prompt in prompts])[:, None]
