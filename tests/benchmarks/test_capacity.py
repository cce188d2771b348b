"""The simulated year at small sizes: the same by seed, and right where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from catalog_pipeline.workflows.upkeep.capacity_fit import Fit
from catalog_pipeline.workflows.upkeep.capacity_night import NightWork
from tests.benchmarks.capacity.simulation import Year, arrivals, simulate

SMALL = Year(
    skus=60,
    nights=6,
    pictures=16,
    hours=8.0,
    workers=2,
    collections=1,
    train=Fit({"fixed": 10.0, "steps": 0.5}, ratios=(0.9, 1.0, 1.1)),
    publish=Fit({"existing": 0.01}, ratios=(0.8, 1.2)),
    picture=Fit({"fixed": 2.0}, ratios=(1.0,)),
    steps=100.0,
    picture_at={},
    kept=0.5,
    restart_seconds=10.0,
    mtbf_hours=0.2,
    refused=0.2,
)
STEADY = replace(
    SMALL,
    train=Fit({"fixed": 60.0}),
    publish=Fit({"fixed": 6.0}),
    picture=Fit({"fixed": 2.0}),
    mtbf_hours=1e9,
    refused=0.0,
)


def test_the_same_seed_is_the_same_year_and_another_is_not():
    assert simulate(SMALL, 1) == simulate(SMALL, 1)
    assert simulate(SMALL, 1) != simulate(SMALL, 2)


def test_every_sku_arrives_once_and_nights_are_uneven():
    counts = arrivals(1000, 365, np.random.default_rng(0))
    assert sum(counts) == 1000
    assert np.quantile(counts, 0.95) > 1.4 * np.mean(counts)


def test_one_worker_takes_the_sum_of_its_tasks():
    nights = simulate(replace(STEADY, workers=1), 0)
    assert sum(night.learned for night in nights) == 60
    for night in nights:
        assert night.learning_hours == pytest.approx(night.arrived * 66 / 3600)
        assert night.hours == pytest.approx(night.learning_hours + 32 / 3600)


@pytest.mark.parametrize("workers", [1, 2, 5, 11, 40])
def test_the_arithmetic_of_a_night_is_what_is_simulated(workers):
    year = replace(STEADY, skus=400, nights=1, workers=workers, pictures=0, hours=1000.0)
    noisy = replace(year, train=Fit({"fixed": 60.0}, ratios=tuple(np.linspace(0.7, 1.3, 13))))
    simulated = np.mean([simulate(noisy, seed)[0].hours for seed in range(5)])
    assert NightWork(400, 60, 6, 1, 0).hours(workers) == pytest.approx(simulated, rel=0.12)


def test_crashes_cost_time_and_no_sku_is_lost():
    still, crashing = (
        simulate(replace(STEADY, workers=1, mtbf_hours=hours), 3) for hours in (1e9, 0.05)
    )
    assert sum(night.crashes for night in still) == 0
    assert sum(night.crashes for night in crashing) > 5
    assert sum(night.learned for night in crashing) == 60
    assert sum(n.hours for n in crashing) > sum(n.hours for n in still)


def test_refused_skus_come_again_and_what_a_night_cannot_do_waits():
    refused = simulate(replace(STEADY, refused=0.5, nights=6), 0)
    assert sum(night.learned for night in refused) < 60
    assert any(night.waiting for night in refused)
    short = simulate(replace(STEADY, workers=1, hours=0.1), 0)
    assert max(night.waiting for night in short) > 0
    assert all(night.hours < 0.1 + 66 / 3600 + 16 / 3600 for night in short)
