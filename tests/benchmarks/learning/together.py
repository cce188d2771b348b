"""Several products of a night as one task, each in a slot of its own."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.learning.baselines.method import NewConcept
from catalog_pipeline.learning.baselines.ours import Ours
from catalog_pipeline.learning.task import Subject


class Together(Ours):
    """As ``ours``, but the concepts take turns step by step within one task.

    ``n`` concepts train for ``n * settings.steps`` steps: as many each as one by one.
    """

    name = "together"

    def learn_all(self, news: Sequence[NewConcept]) -> None:
        """Train a fresh slot for each of ``news``."""
        for new in news:
            self._check(new)
        subjects = [
            Subject(
                class_noun=new.concept.class_noun,
                photos=new.photos,
                slot=new.concept.sku,
                placeholder_tokens=new.concept.placeholder_tokens,
            )
            for new in news
        ]
        self._train(subjects, self._seed(news[0].concept.sku))
        for new in news:
            self._remember(new)
