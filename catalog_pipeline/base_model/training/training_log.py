"""Progress for people and numbers for later: a bar on a terminal, lines elsewhere, JSON on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

_SECONDS_BETWEEN_LINES = 15.0


class Deadline:
    """A bound on the wall clock, in minutes from now; ``None`` never passes."""

    def __init__(self, minutes: float | None = None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def passed(self) -> bool:
        """Whether the time is up."""
        return self._end is not None and time.monotonic() >= self._end


class StageLog:
    """The progress of one stage; made by :meth:`TrainingLog.stage`."""

    def __init__(self, log: TrainingLog, name: str, total: int, bar: Progress | None) -> None:
        self._log, self._name, self._total, self._bar = log, name, total, bar
        self._task: TaskID | None = None if bar is None else bar.add_task(name, total=total)
        self._last_line = time.monotonic()

    def reach(self, done: int, **figures: float) -> None:
        """``done`` of the total is done; figures go to the log file and beside the bar."""
        note = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, description=f"{self._name}  {note}")
        elif done == self._total or time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._log.say(f"{self._name} {done}/{self._total}  {note}")
        if figures:
            self._log.record(stage=self._name, done=done, **figures)


class TrainingLog:
    """Says what happens; ``path`` (JSON lines, appended) keeps every figure of every run."""

    def __init__(self, path: Path | None = None, console: Console | None = None) -> None:
        self._path = path
        self._console = console or Console(stderr=True)

    def say(self, text: str) -> None:
        """One line for the person who watches."""
        self._console.print(text, highlight=False, markup=False)

    def record(self, **entry: float | str) -> None:
        """One JSON line in the log file, where there is one."""
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[StageLog]:
        """Show one stage of ``total`` steps while the block runs, and record its seconds."""
        began = time.monotonic()
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self._console) as bar:
                yield StageLog(self, name, total, bar)
        else:
            self.say(f"{name}: {total}")
            yield StageLog(self, name, total, None)
        self.record(stage=name, seconds=round(time.monotonic() - began, 1))
