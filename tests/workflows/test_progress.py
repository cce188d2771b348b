"""How long a task still takes, as it is told."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from catalog_pipeline.cli import progress as cli_progress
from catalog_pipeline.cli.progress import BarProgress, LineProgress
from catalog_pipeline.defs.progress import LogProgress
from catalog_pipeline.workflows.progress import Pace, ProgressSink


def test_what_was_there_at_the_start_does_not_make_the_rest_look_quick() -> None:
    pace = Pace(100, 60)
    assert str(pace) == ""
    pace.advance(4, now=0.0)
    assert pace.seconds_left is None
    pace.advance(8, now=40.0)
    assert pace.seconds_left == pytest.approx(28 * 5.0)
    assert str(pace) == "about 2 min left"


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
    progress.advance("render", 2)
    progress.advance("render", 1, "1 to be tried again")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["render: started, 4 to do", "render: 2/4"]
    assert lines[2] == "render: 3/4, about 30 s left, 1 to be tried again"


def told(progress: ProgressSink) -> None:
    progress.start("learn", 120, 100)
    for _ in range(20):
        progress.advance("learn", 1)
    progress.finish("learn")


def test_a_resumed_task_says_so_and_counts_on_in_lines_and_bars() -> None:
    stream = io.StringIO()
    told(LineProgress(stream))
    first, last = stream.getvalue().splitlines()
    assert first == "learn: resumed at 100 of 120"
    assert last.startswith("learn: 120/120 in ")
    bars = Progress(console=Console(file=io.StringIO()))
    bar = BarProgress(bars)
    bar.start("learn", 120, 100)
    (task,) = bars.tasks
    assert (task.completed, task.fields["note"]) == (100, "resumed at 100 of 120")
    bar.advance("learn", 1, "loss 0.1")
    assert (task.completed, task.fields["note"]) == (101, "loss 0.1")


def test_a_resumed_task_says_so_and_counts_on_in_a_run_of_dagster() -> None:
    lines: list[str] = []

    class Log:
        def info(self, line: str) -> None:
            lines.append(line)

    told(LogProgress(Log()))  # type: ignore[arg-type]
    assert lines[0] == "learn: resumed at 100 of 120"
    assert [line.split(",")[0] for line in lines[1:]] == [
        "learn: 108 of 120",
        "learn: 120 of 120",
        "learn: finished after 120",
    ]
