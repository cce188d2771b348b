"""L2DM, arXiv:2309.04430, and its parts one by one."""

from __future__ import annotations

from catalog_pipeline.learning.memory import (
    LatentBank,
    RememberedConcept,
    prior_prompts,
    recall_exemplars,
    refreshed,
    render_prior,
)
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.learning.methods.shared_slot import SharedSlot
from catalog_pipeline.records import SHARED, Concept


class L2dm(SharedSlot):
    """What ships as ``learning.yaml: adapter.slots: shared``.

    One slot, kept by prior loss (Eq. 3), replay (Eqs. 4, 5) and distillation (Eq. 6)::

        L = L_concept + lambda L_PR + alpha sum_l L_replay(l) + gamma sum_l w_l L_distil(l)

    Weights, elasticity and the choice of exemplars are those of the settings; a weight or
    a batch size of 0 switches a term off, and its bank is not rendered.
    **Differs from the paper:** the trained weights are the adapter's, and at most
    ``replay_concepts`` earlier concepts are refreshed a task, round-robin, which keeps
    the cost of a task flat.
    """

    name = "l2dm"

    def banks(self, new: NewConcept, seed: int) -> tuple[LatentBank | None, LatentBank | None]:
        """Pictures of the bare base, and of remembered concepts by the current student."""
        settings, losses, plan = self.settings, self.losses, self.context.plan
        prior = exemplars = None
        if settings.prior_images and settings.prior_batch_size and losses.prior_weight:
            prompts = prior_prompts(settings.scenes, new.concept.class_noun, settings.prior_images)
            prior = render_prior(self.engine, prompts, plan, seed)
        wanted = losses.replay_weight or losses.distillation_weight
        replayed = self.learned and settings.replay_batch_size and wanted
        if replayed and (remembered := self.remembered(new.concept)):
            exemplars = recall_exemplars(
                self.engine,
                remembered,
                self.context.encode,
                slot=SHARED,
                candidates=settings.replay_candidates,
                exemplars=settings.replay_exemplars,
                plan=plan,
                seed=seed,
                selection=settings.replay_selection,
            )
        return prior, exemplars

    def remembered(self, new: Concept) -> list[RememberedConcept]:
        """The concepts that the task of ``new`` refreshes: at most ``replay_concepts``, in turn."""
        chosen = refreshed(self.learned, self.settings.replay_concepts, new.task - 1)
        remembered = [self.collection.remembered(concept) for concept in chosen]
        return [item for item in remembered if self.reads(item.concept, item.prompts)]


class Replay(L2dm):
    """Replay of exemplars alone (first term of Eq. 4); ``prior`` adds the prior loss."""

    name = "replay"
    switched_off = "distillation_weight"

    def __init__(self, context: LearningContext, *, prior: bool = False) -> None:
        super().__init__(context)
        off = {self.switched_off: 0.0} | ({} if prior else {"prior_weight": 0.0})
        self.losses = self.losses.model_copy(update=off)


class Distillation(Replay):
    """Distillation on exemplars alone (Eq. 6, alpha = 0); ``prior`` adds the prior loss."""

    name = "distillation"
    switched_off = "replay_weight"
