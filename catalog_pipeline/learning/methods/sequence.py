"""Tasks one after the other with everything held in memory: a catalog without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from catalog_pipeline.learning.methods.collection import HeldCollection, NewConcept
from catalog_pipeline.learning.methods.method import LifelongMethod


class TaskSequence:
    """``method`` on a collection of its own, from the first task on."""

    def __init__(self, method: LifelongMethod) -> None:
        self.method = method
        self.restore({}, ())

    def learn(self, *news: NewConcept) -> None:
        """One task with the photos of ``news`` alone."""
        task = self.method.task(*news)
        self.collection.add(news, self.method.train(task).parts)

    def state(self) -> dict[str, bytes]:
        """All parts by name: what a process that goes on later needs."""
        return dict(self.collection.parts)

    def restore(self, state: Mapping[str, bytes], learned: Sequence[NewConcept]) -> None:
        """Go on from a :meth:`state`; ``learned`` in order, photos not needed."""
        self.collection = HeldCollection()
        self.collection.add(learned, state)
        self.method.open(self.collection)
