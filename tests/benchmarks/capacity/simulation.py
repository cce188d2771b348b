"""A year of nights, SKU by SKU: what a plan's arithmetic leaves out.

Nights are uneven, tasks take as long as measured ones did, workers crash and go on from their
last checkpoint, refused SKUs come again, what a night does not finish waits for the next one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import simpy

from catalog_pipeline.workflows.upkeep.capacity_fit import Fit

TRIES = 3
PICTURES_A_BATCH = 8
Events = Generator[simpy.Event, object, None]


@dataclass(frozen=True)
class Year:
    """What is simulated; seconds come from lines and from what held-out points were off by.

    Attributes:
        skus: that arrive in all, over ``nights``.
        pictures: a night, after its learning, as far as the night is long.
        hours: that a night has.
        workers: side by side.
        collections: that publish beside each other.
        train, publish, picture: seconds, of ``steps``, ``existing`` and of a picture.
        kept: share of a task between two checkpoints.
        restart_seconds: of a crashed worker.
        mtbf_hours: between two crashes of one.
        refused: share of first attempts that are refused; ``again`` of further ones.
    """

    skus: int
    nights: int
    pictures: int
    hours: float
    workers: int
    collections: int
    train: Fit
    publish: Fit
    picture: Fit
    steps: float
    picture_at: dict[str, float]
    kept: float
    restart_seconds: float
    mtbf_hours: float
    refused: float
    again: float = 0.5


@dataclass
class SimulatedNight:
    """One night: SKUs that came, that were learned and that wait, pictures, hours, crashes."""

    arrived: int
    learned: int = 0
    waiting: int = 0
    pictures: int = 0
    learning_hours: float = 0.0
    hours: float = 0.0
    crashes: int = 0


def arrivals(skus: int, nights: int, rng: np.random.Generator) -> Sequence[int]:
    """SKUs a night, ``skus`` in all: two seasons, weekends at a third, and nights that vary."""
    day = np.arange(nights)
    season = 1.0 + 0.5 * np.sin(2 * np.pi * day / 182.5)
    weekend = np.where(day % 7 >= 5, 1 / 3, 1.0)
    weights = season * weekend * rng.lognormal(0.0, 0.3, nights)
    return [int(count) for count in rng.multinomial(skus, weights / weights.sum())]


def simulate(year: Year, seed: int) -> list[SimulatedNight]:
    """Every night of ``year``; the same seed gives the same nights."""
    rng = np.random.default_rng(seed)
    waiting: deque[int] = deque()  # how often each has been tried
    known = 0
    nights = []
    for count in arrivals(year.skus, year.nights, rng):
        waiting.extend([0] * count)
        night = _Night(year, rng, waiting, known, SimulatedNight(count))
        night.run()
        known += night.result.learned
        nights.append(night.result)
    return nights


@dataclass
class _Night:
    year: Year
    rng: np.random.Generator
    waiting: deque[int]
    known: int
    result: SimulatedNight

    def run(self) -> None:
        """Learn until nothing waits or the night is over, then render until it is."""
        self.env = simpy.Environment()
        self.end = self.year.hours * 3600
        count = self.year.collections
        self.leases = [simpy.Resource(self.env) for _ in range(count)]
        self.refused: list[int] = []
        self._side_by_side(self._learn)
        self.result.learning_hours = self.env.now / 3600
        self.left = self.year.pictures
        self._side_by_side(self._render)
        self.result.hours = self.env.now / 3600
        self.waiting.extend(self.refused)
        self.result.waiting = len(self.waiting)

    def _side_by_side(self, work: object) -> None:
        workers = [self.env.process(work()) for _ in range(self.year.workers)]  # type: ignore[operator]
        self.env.run(self.env.all_of(workers))

    def _learn(self) -> Events:
        year = self.year
        while self.waiting and self.env.now < self.end:
            tried = self.waiting.popleft()
            seconds = year.train.at(steps=year.steps) * self._off(year.train)
            yield from self._work(seconds, seconds * year.kept)
            if self.rng.random() < (year.again if tried else year.refused):
                if tried + 1 < TRIES:
                    self.refused.append(tried + 1)
                continue
            lease = self.leases[self.rng.integers(len(self.leases))]
            with lease.request() as turn:
                yield turn
                existing = (self.known + self.result.learned) / year.collections
                held = year.publish.at(existing=existing) * self._off(year.publish)
                yield self.env.timeout(held)
            self.result.learned += 1

    def _render(self) -> Events:
        year = self.year
        while self.left > 0 and self.env.now < self.end:
            batch = min(PICTURES_A_BATCH, self.left)
            self.left -= batch
            seconds = batch * year.picture.at(**year.picture_at) * self._off(year.picture)
            yield from self._work(seconds, seconds)
            self.result.pictures += batch

    def _work(self, seconds: float, kept: float) -> Events:
        """``seconds`` of work that is safe every ``kept`` of them; what a crash loses is redone."""
        left = seconds
        while left > 0:
            crash = self.rng.exponential(self.year.mtbf_hours * 3600)
            if crash >= left:
                yield self.env.timeout(left)
                return
            done = seconds - left + crash
            left = seconds - math.floor(done / kept) * kept
            self.result.crashes += 1
            yield self.env.timeout(crash + self.year.restart_seconds)

    def _off(self, line: Fit) -> float:
        """What a held-out point was off by; 1 where nothing was measured."""
        ratios = line.ratios or (1.0,)
        return ratios[int(self.rng.random() * len(ratios))]
