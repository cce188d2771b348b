"""The arithmetic of one night: workers side by side, a step in sequence, crashes.

Workers train side by side; publishing holds a SKU's collection, one SKU after the other. How
the two mix is the exact mean value analysis of a closed network (Reiser and Lavenberg, 1980).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

MOST_WORKERS = 4096


@dataclass(frozen=True)
class NightWork:
    """What a night has to do, in seconds of one worker.

    Attributes:
        tasks: SKUs to train, those that are tried again among them.
        train_seconds: a task, beside the others.
        publish_seconds: a task, while it holds its collection.
        collections: that can be held at the same time.
        picture_seconds: all pictures of the night.
    """

    tasks: float
    train_seconds: float
    publish_seconds: float
    collections: int
    picture_seconds: float

    def hours(self, workers: int) -> float:
        """From the start to the last picture with ``workers`` side by side."""
        rate = next(islice(self._rates(), workers - 1, None))
        return self._hours(workers, rate)

    def fewest_workers(self, hours: float) -> int | None:
        """That are done within ``hours``; ``None`` where :data:`MOST_WORKERS` are too few."""
        for workers, rate in zip(range(1, MOST_WORKERS + 1), self._rates(), strict=False):
            if self._hours(workers, rate) <= hours:
                return workers
        return None

    @property
    def least_hours(self) -> float:
        """However many workers: one task, and publishing in sequence."""
        sequence = self.tasks * self.publish_seconds / self.collections
        return (sequence + self.train_seconds * bool(self.tasks)) / 3600

    def _rates(self) -> Iterator[float]:
        """Tasks that end a second with 1, 2, 3, ... workers."""
        waiting = 0.0  # at one collection, on average
        for workers in range(1, MOST_WORKERS + 1):
            turn = self.publish_seconds * (1.0 + waiting)
            rate = workers / (self.train_seconds + turn) if self.tasks else math.inf
            waiting = rate * turn / self.collections if self.tasks else 0.0
            yield rate

    def _hours(self, workers: int, rate: float) -> float:
        """Learning, then pictures.

        At the end workers fall idle one after the other, half a task each on average; and no
        task is shorter than itself.
        """
        idle = (min(workers, math.ceil(self.tasks)) - 1) / 2
        alone = (self.train_seconds + self.publish_seconds) * bool(self.tasks)
        learning = max((self.tasks + max(0.0, idle)) / rate, alone)
        return (learning + self.picture_seconds / workers) / 3600
