"""L2DM, arXiv:2309.04430, and its parts one by one."""

from __future__ import annotations

from dataclasses import replace

from catalog_pipeline.learning.baselines.finetune import SHARED, Finetune
from catalog_pipeline.learning.baselines.method import NewConcept, Workshop
from catalog_pipeline.learning.memory import (
    MEMORY_PROMPTS,
    LatentBank,
    RememberedConcept,
    prior_prompts,
    recall_exemplars,
    refreshed,
    render_prior,
)


class L2dm(Finetune):
    """One slot, kept by prior loss (Eq. 3), replay (Eqs. 4, 5) and distillation (Eq. 6)::

        L = L_concept + lambda L_PR + alpha sum_l L_replay(l) + gamma sum_l w_l L_distil(l)

    Weights, elasticity and the choice of exemplars are those of ``Workshop.settings``.
    **Differs from the paper:** the trained weights are the adapter's, and at most
    ``replay_concepts`` earlier concepts are refreshed a task, round-robin, which keeps
    the cost of a task flat.
    """

    name = "l2dm"

    def _banks(self, new: NewConcept, seed: int) -> tuple[LatentBank | None, LatentBank | None]:
        settings, plan = self._settings, self._workshop.plan
        losses = settings.losses
        prior = exemplars = None
        if settings.prior_images and settings.prior_batch_size and losses.prior_weight:
            prompts = prior_prompts(settings.scenes, new.concept.class_noun, settings.prior_images)
            prior = render_prior(self._engine, prompts, plan, seed)
        wanted = losses.replay_weight or losses.distillation_weight
        if self._learned and settings.replay_batch_size and wanted:
            exemplars = recall_exemplars(
                self._engine,
                self._remembered(),
                self._workshop.encode,
                candidates=settings.replay_candidates,
                exemplars=settings.replay_exemplars,
                plan=plan,
                seed=seed,
                selection=settings.replay_selection,
            )
        return prior, exemplars

    def _remembered(self) -> list[RememberedConcept]:
        features = {item.concept.sku: item.features for item in self._learned}
        concepts = [item.concept for item in self._learned]
        chosen = refreshed(concepts, self._settings.replay_concepts, len(concepts))
        return [RememberedConcept(c, SHARED, MEMORY_PROMPTS, features[c.sku]) for c in chosen]


class Replay(L2dm):
    """Replay of exemplars alone (first term of Eq. 4); ``prior`` adds the prior loss."""

    name = "replay"

    def __init__(self, workshop: Workshop, *, prior: bool = False) -> None:
        super().__init__(_only(workshop, "distillation_weight", prior))


class Distillation(L2dm):
    """Distillation on exemplars alone (Eq. 6, alpha = 0); ``prior`` adds the prior loss."""

    name = "distillation"

    def __init__(self, workshop: Workshop, *, prior: bool = False) -> None:
        super().__init__(_only(workshop, "replay_weight", prior))


def _only(workshop: Workshop, switched_off: str, prior: bool) -> Workshop:
    """``workshop`` with one weight at zero, and the prior loss's too unless ``prior``."""
    changes = {switched_off: 0.0} | ({} if prior else {"prior_weight": 0.0})
    losses = workshop.settings.losses.model_copy(update=changes)
    return replace(workshop, settings=workshop.settings.model_copy(update={"losses": losses}))
