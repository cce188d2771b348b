"""How long a task still takes, as it is told."""

from __future__ import annotations

import io

import pytest

from catalog_pipeline.cli import progress as cli_progress
from catalog_pipeline.cli.progress import LineProgress
from catalog_pipeline.workflows.progress import Pace


def test_what_was_there_at_the_start_does_not_make_the_rest_look_quick() -> None:
    pace = Pace(100)
    assert str(pace) == ""
    pace.advance(60, now=0.0)
    assert pace.seconds_left is None
    pace.advance(8, now=40.0)
    assert pace.seconds_left == pytest.approx(32 * 5.0)
    assert str(pace) == "about 3 min left"


def test_the_pace_is_that_of_the_last_steps() -> None:
    pace = Pace(1000)
    for step in range(30):
        pace.advance(1, now=float(step))
    for step in range(30):
        pace.advance(1, now=30.0 + 10.0 * step)
    assert pace.seconds_left == pytest.approx(940 * 10.0)
    assert str(pace) == "about 2.6 h left"
    pace.advance(940, now=1000.0)
    assert str(pace) == ""


def test_nothing_is_foretold_of_a_task_without_an_end() -> None:
    pace = Pace(0)
    for now in (0.0, 1.0, 2.0):
        pace.advance(1, now=now)
    assert (pace.seconds_left, pace.done) == (None, 3)


def test_lines_in_a_log_tell_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    stream = io.StringIO()
    progress = LineProgress(stream)
    monkeypatch.setattr(cli_progress, "LINE_EVERY_SECONDS", 1.0)
    progress.start("render", 4)
    progress.advance("render", 2, "already there")
    progress.advance("render", 1, "1 to be tried again")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["render: started, 4 to do", "render: 2/4, already there"]
    assert lines[2] == "render: 3/4, about 30 s left, 1 to be tried again"
