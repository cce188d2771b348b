"""Plateau schedule: its shape, when the descent starts, and resuming on both sides of that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
from catalog_pipeline.learning.schedule import FLAT_SHARE, PlateauSchedule
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.settings import (
    EarlyStopSettings,
    LearningSettings,
)
from tests.builders import make_concept, make_photos
from tests.learning.checkpoints import Killed, MemoryCheckpoint
from tests.tiny_model import open_tiny_engine

EARLY = EarlyStopSettings(enabled=True, check_every=10, patience=2, min_gain=0.1, min_steps=20)


def slow_factor(step: int, flat_steps: float, last_step: float) -> float:
    """Warm-up over 10 steps, flat, then half a cosine down to a twentieth."""
    factor = min(1.0, (step + 1) / 10)
    if step >= flat_steps:
        share = (step - flat_steps) / (last_step - flat_steps)
        factor *= 0.05 + 0.95 * (1 + math.cos(math.pi * min(1.0, share))) / 2
    return factor


# --- the shape ---------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7, 12, 50, 200, 601])
def test_without_early_stopping_it_is_sixty_and_forty_percent(steps: int) -> None:
    schedule = PlateauSchedule(steps, EarlyStopSettings())
    assert schedule.last_step == steps
    for step in range(steps):
        want = slow_factor(step, 0.6 * steps, steps)
        assert schedule.factor(step) == pytest.approx(want, abs=1e-9)
    assert not any(schedule.checks_at(step) for step in range(steps))


def test_every_length_is_kept() -> None:
    lengths = [PlateauSchedule(n, EarlyStopSettings()).last_step for n in range(1, 2000)]
    assert lengths == list(range(1, 2000))


def test_early_stopping_that_never_stops_has_the_same_shape() -> None:
    plain, early = PlateauSchedule(100, EarlyStopSettings()), PlateauSchedule(100, EARLY)
    loss = 1.0
    for step in range(1, 101):
        assert early.factor(step - 1) == plain.factor(step - 1)
        if early.checks_at(step):
            loss *= 0.8
            early.observe(step, loss)
    assert early.last_step == 100


# --- the plateau -------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """The steps after which the held-out loss was asked, and the factor of each step."""

    looks: list[int]
    factors: list[float]


def walk(losses: list[float], settings: EarlyStopSettings, steps: int = 200) -> Walk:
    """A task whose held-out loss is ``losses`` at the looks, the last one repeated."""
    schedule = PlateauSchedule(steps, settings)
    looks: list[int] = []
    factors: list[float] = []
    while len(factors) < schedule.last_step:
        factors.append(schedule.factor(len(factors)))
        if schedule.checks_at(len(factors)):
            schedule.observe(len(factors), losses[min(len(looks), len(losses) - 1)])
            looks.append(len(factors))
    return Walk(looks, factors)


def test_a_plateau_starts_the_descent_and_shortens_the_task() -> None:
    """A gain at 20, none that counts at 30 and 40: flat until 40, and 40 is 60 % of 67."""
    found = walk([1.0, 0.5, 0.49, 0.48, 0.1], EARLY)
    assert found.looks == [10, 20, 30, 40], "nobody looks once the descent has started"
    assert len(found.factors) == round(40 / FLAT_SHARE) == 67
    for step, factor in enumerate(found.factors):
        assert factor == pytest.approx(slow_factor(step, 40, 40 / FLAT_SHARE), abs=1e-9)
    assert found.factors[39] == found.factors[40] == 1.0
    assert found.factors[-1] < 0.06


def test_every_gain_that_counts_begins_the_patience_anew() -> None:
    losses = [1.0, 1.0, 0.8, 0.8, 0.6, 0.6, 0.6]
    assert walk(losses, EARLY).looks == [10, 20, 30, 40, 50, 60, 70]
    assert len(walk(losses, EARLY).factors) == round(70 / FLAT_SHARE)


def test_the_descent_does_not_start_before_min_steps() -> None:
    late = EARLY.model_copy(update={"min_steps": 60})
    assert walk([1.0], late).looks[-1] == 60
    assert walk([1.0], EARLY).looks[-1] == 30


def test_a_plateau_after_sixty_percent_changes_nothing() -> None:
    losses = [0.5**n for n in range(12)]
    assert len(walk(losses, EARLY, steps=100).factors) == 100


def test_the_state_is_one_tensor_that_is_changed_in_place() -> None:
    schedule, other = PlateauSchedule(200, EARLY), PlateauSchedule(200, EARLY)
    state = schedule.state
    for step in (10, 20, 30):
        schedule.observe(step, 1.0)
    assert schedule.state is state
    other.state.copy_(state)
    assert (other.last_step, other.factor(35)) == (schedule.last_step, schedule.factor(35))
    assert other.last_step == 50


# --- in a task ---------------------------------------------------------------

# Falls of nine tenths never come, so the second look at or after step 8 starts the descent.
PATIENT = EarlyStopSettings(
    enabled=True, check_every=4, heldout_views=3, patience=1, min_gain=0.9, min_steps=8
)
SETTINGS = LearningSettings(
    steps=40, checkpoint_every=5, latent_views=4, batch_size=1, early_stop=PATIENT
)


def a_task() -> LearningTask:
    concept = make_concept("A", 1, placeholder_tokens=("<A:0>", "<A:1>"))
    subject = Subject(concept, make_photos(3, 24), "A")
    return LearningTask((subject,), (), "fingerprint", 3)


def learn(
    folder: Path,
    checkpoint: MemoryCheckpoint,
    settings: LearningSettings = SETTINGS,
    kill_at: int | None = None,
) -> tuple[list[tuple[int, float]], bytes]:
    """Each step that was taken with its loss, and the learned bytes."""
    engine, steps = open_tiny_engine(folder), []

    def on_step(step: int, loss: float) -> None:
        steps.append((step, loss))
        if step == kill_at:
            raise Killed

    try:
        ConceptTrainer(engine, settings).train(a_task(), checkpoint, on_step)
    except Killed:
        return steps, b""
    tokens = token_part(engine, a_task().subjects[0].concept.placeholder_tokens)
    return steps, encode_part(slot_part(engine, "A") | tokens)


def test_killed_before_or_after_the_plateau_it_ends_with_the_same_bytes(
    tiny_model_folder: Path,
) -> None:
    whole, want = learn(tiny_model_folder, MemoryCheckpoint())
    assert len(whole) == round(8 / FLAT_SHARE) == 13, "the plateau was found at step 8"
    for kill_at, resumed_from in ((7, 5), (12, 10)):
        checkpoint = MemoryCheckpoint()
        learn(tiny_model_folder, checkpoint, kill_at=kill_at)
        rest, got = learn(tiny_model_folder, checkpoint)
        assert rest == whole[resumed_from:]
        assert got == want


def test_looking_at_the_held_out_views_draws_no_random_number(tiny_model_folder: Path) -> None:
    early, _ = learn(tiny_model_folder, MemoryCheckpoint())
    off = SETTINGS.model_copy(update={"early_stop": EarlyStopSettings()})
    plain, _ = learn(tiny_model_folder, MemoryCheckpoint(), off, kill_at=12)
    assert plain[:8] == early[:8], "the same up to the plateau"
    assert plain[10:12] != early[10:12], "another rate after it"
