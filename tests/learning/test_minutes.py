"""``minutes_per_sku``: the pace of the first steps decides, once, how many steps a task has."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import ValidationError

from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
from catalog_pipeline.learning.checkpoint import LossCurve
from catalog_pipeline.learning.schedule import PlateauSchedule
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.settings import EarlyStopSettings, LearningSettings
from tests.builders import make_concept, make_photos
from tests.learning.checkpoints import Killed, MemoryCheckpoint
from tests.tiny_model import open_tiny_engine

SHORT = EarlyStopSettings(min_steps=6)
SETTINGS = LearningSettings(
    steps=7, minutes_per_sku=1, checkpoint_every=8, latent_views=3, batch_size=1, early_stop=SHORT
)
# Falls of nine tenths never come: a plateau at the first look at or after `min_steps`.
PATIENT = EarlyStopSettings(
    enabled=True, check_every=10, heldout_views=3, patience=1, min_gain=0.9, min_steps=20
)


@dataclass
class StepClock:
    """Stands still until somebody moves it."""

    now: float = 1000.0
    reads: int = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now


@dataclass
class Run:
    """What a task did: the steps it took, what was told of its length, its bytes at the end."""

    steps: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    curve: LossCurve = field(default_factory=list)
    learned: bytes = b""


def a_task(count: int = 1) -> LearningTask:
    skus = "AB"[:count]
    subjects = tuple(
        Subject(
            make_concept(sku, 1, placeholder_tokens=(f"<{sku}:0>", f"<{sku}:1>")),
            make_photos(3, 24),
            sku,
        )
        for sku in skus
    )
    return LearningTask(subjects, (), "fingerprint", 3)


def learn(
    folder: Path,
    settings: LearningSettings,
    seconds_a_step: float = 2.0,
    checkpoint: MemoryCheckpoint | None = None,
    kill_at: int | None = None,
    subjects: int = 1,
) -> Run:
    engine, run, clock = open_tiny_engine(folder), Run(), StepClock()
    task = a_task(subjects)

    def on_step(step: int, loss: float) -> None:
        assert math.isfinite(loss)
        run.steps.append(step)
        clock.now += seconds_a_step
        if step == kill_at:
            raise Killed

    trainer = ConceptTrainer(engine, settings, clock)
    try:
        run.curve = trainer.train(task, checkpoint or MemoryCheckpoint(), on_step, run.told.append)
    except Killed:
        return run
    part = {}
    for subject in task.subjects:
        tokens = token_part(engine, subject.concept.placeholder_tokens)
        part |= {f"{subject.slot}/{k}": v for k, v in slot_part(engine, subject.slot).items()}
        part |= tokens
    run.learned = encode_part(part)
    assert clock.reads <= (0 if settings.minutes_per_sku is None else 2)
    return run


def fixed(steps: int) -> LearningSettings:
    changes = {"steps": steps, "minutes_per_sku": None, "early_stop": SHORT}
    return SETTINGS.model_copy(update=changes)


# --- how many steps ----------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds_a_step", "want"),
    [(1.2, 50), (1.0, 60), (60.0, 42), (1e9, 42)],
    ids=["fifty", "sixty", "slow: 25 flat steps were needed to know", "endless"],
)
def test_a_minute_is_as_many_steps_as_the_pace_says(
    tiny_model_folder: Path, seconds_a_step: float, want: int
) -> None:
    run = learn(tiny_model_folder, SETTINGS, seconds_a_step)
    assert run.steps == list(range(1, want + 1)), "whatever `steps` says"
    assert run.told == [want]
    assert run.curve[-1][0] == want


def test_no_task_is_shorter_than_early_stop_allows() -> None:
    schedule = PlateauSchedule(None, EarlyStopSettings())
    schedule.decide(3, 25)
    assert schedule.last_step == 125 == math.ceil(75 / 0.6)
    assert schedule.factor(74) == 1.0 > schedule.factor(76)


def test_subjects_bring_their_minutes(tiny_model_folder: Path) -> None:
    assert len(learn(tiny_model_folder, SETTINGS, subjects=2).steps) == 60
    assert len(learn(tiny_model_folder, SETTINGS, subjects=1).steps) == 42


@pytest.mark.parametrize("steps", [42, 43, 50, 59, 125, 1201, 40_000])
def test_a_decided_schedule_is_that_of_the_steps(steps: int) -> None:
    decided, given = PlateauSchedule(None, SHORT), PlateauSchedule(steps, SHORT)
    assert not decided.decided
    early = [decided.factor(step) for step in range(25)]
    decided.decide(steps, 25)
    assert early == [given.factor(step) for step in range(25)]
    assert decided.state.tolist() == given.state.tolist()
    assert decided.last_step == given.last_step == steps


# --- with early stopping -----------------------------------------------------


@pytest.mark.parametrize(
    ("min_steps", "want"),
    [(20, 34), (30, 50), (10_000, 16_667)],
    ids=["before the pace is known", "after it", "the floor is above the minutes"],
)
def test_a_plateau_ends_the_task_before_the_minutes_are_over(min_steps: int, want: int) -> None:
    early = PATIENT.model_copy(update={"min_steps": min_steps})
    schedule = PlateauSchedule(None, early)
    for step in itertools.takewhile(lambda step: step < schedule.last_step, itertools.count(1)):
        if schedule.checks_at(step):
            schedule.observe(step, 1.0)
        if step == 25 and not schedule.decided:
            schedule.decide(100, step)
    assert schedule.last_step == want >= min_steps / 0.6


def test_minutes_bound_early_stopping_from_above() -> None:
    schedule = PlateauSchedule(None, PATIENT)
    schedule.decide(100, 25)
    for step in range(30, 101, 10):
        if schedule.checks_at(step):
            schedule.observe(step, 0.05 ** (step / 10))
    assert schedule.last_step == 100


# --- again -------------------------------------------------------------------


@pytest.mark.parametrize("early_stop", [SHORT, PATIENT], ids=["minutes", "plateau"])
def test_the_recorded_steps_give_the_same_tensors(
    tiny_model_folder: Path, early_stop: EarlyStopSettings
) -> None:
    settings = SETTINGS.model_copy(update={"early_stop": early_stop})
    timed = learn(tiny_model_folder, settings, seconds_a_step=1.3)
    recorded = timed.curve[-1][0]
    assert recorded == (34 if early_stop.enabled else 46)
    again = learn(tiny_model_folder, fixed(recorded))
    assert again.learned == timed.learned
    assert again.curve == timed.curve
    assert again.told == [], "nobody needs to be told what the settings say"
    assert learn(tiny_model_folder, fixed(recorded + 1)).learned != timed.learned


def test_killed_after_the_decision_it_goes_on_to_the_same_last_step(
    tiny_model_folder: Path,
) -> None:
    whole, checkpoint = learn(tiny_model_folder, SETTINGS, 1.2), MemoryCheckpoint()
    learn(tiny_model_folder, SETTINGS, 1.2, checkpoint, kill_at=34)
    rest = learn(tiny_model_folder, SETTINGS, 0.01, checkpoint)
    assert rest.steps == list(range(33, 51))
    assert rest.told == [50], "a machine a hundred times as quick does not ask again"
    assert rest.learned == whole.learned


def test_killed_before_the_decision_it_is_made_after_resuming(tiny_model_folder: Path) -> None:
    checkpoint = MemoryCheckpoint()
    killed = learn(tiny_model_folder, SETTINGS, 1.2, checkpoint, kill_at=20)
    assert killed.told == []
    rest = learn(tiny_model_folder, SETTINGS, 0.8, checkpoint)
    assert rest.steps == list(range(17, 76)), "60 s at 0.8 s a step"
    assert rest.learned == learn(tiny_model_folder, fixed(75)).learned


def test_a_late_decision_leaves_the_steps_so_far_flat(tiny_model_folder: Path) -> None:
    """From step 16 on a pace is known at step 41: 41 flat steps are 60 % of 69."""
    checkpoint = MemoryCheckpoint()
    learn(tiny_model_folder, SETTINGS, 1e6, checkpoint, kill_at=20)
    rest = learn(tiny_model_folder, SETTINGS, 1e6, checkpoint)
    assert rest.told == [69]
    assert rest.learned == learn(tiny_model_folder, fixed(69)).learned


# --- the setting -------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "a while", 1e9])
def test_a_wrong_value_gives_one_error(value: object) -> None:
    with pytest.raises(ValidationError) as error:
        LearningSettings(minutes_per_sku=value)
    assert error.value.error_count() == 1
    assert error.value.errors()[0]["loc"] == ("minutes_per_sku",)


def test_how_long_in_words() -> None:
    assert fixed(120).length == "120 steps"
    assert LearningSettings(minutes_per_sku=0.5).length == "about 0.5 minutes"
