"""Progress on stderr: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from catalog_pipeline.workflows.progress import Pace, beginning

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from catalog_pipeline.workflows.progress import ProgressSink

LINE_EVERY_SECONDS = 10.0


@contextmanager
def open_progress(stream: TextIO | None = None) -> Iterator[ProgressSink]:
    """A progress sink on ``stream`` (default stderr) for the length of one command."""
    target = stream or sys.stderr
    if not target.isatty():
        yield LineProgress(target)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(file=target),
        # Results go to stdout: let them pass above the bars only when both are the terminal,
        # else a redirected stdout would end up on stderr.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=False,
    )
    with bars:
        yield BarProgress(bars)


class BarProgress:
    """One bar a task; a task that starts again starts its bar again."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._ids: dict[str, TaskID] = {}

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Show ``task`` with ``done`` of ``total`` units of work behind it; 0 when nobody knows."""
        if task in self._ids:
            self._bars.remove_task(self._ids[task])
        self._ids[task] = self._bars.add_task(
            task, total=total or None, completed=done, note=beginning(total, done) if done else ""
        )

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        """Move ``task`` on by ``count`` units; ``note`` replaces the text beside the bar."""
        self._bars.update(self._ids[task], advance=count, note=note)

    def set_total(self, task: str, total: int) -> None:
        """Give the bar of ``task`` its length."""
        self._bars.update(self._ids[task], total=total)

    def finish(self, task: str) -> None:
        """Leave the bar of ``task`` as it stands, its clock stopped."""
        self._bars.stop_task(self._ids[task])


@dataclass
class _Task:
    pace: Pace
    started: float
    last_line: float

    @property
    def count(self) -> str:
        done, total = self.pace.done, self.pace.total
        return f"{done}/{total}" if total else str(done)


class LineProgress:
    """A line when a task starts and ends, and at most one each ten seconds with the time left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tasks: dict[str, _Task] = {}

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Say that ``task`` begins, or from where it goes on."""
        now = time.monotonic()
        self._tasks[task] = _Task(Pace(total, done), now, now)
        self._say(f"{task}: {beginning(total, done)}")

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        """Count; say how far ``task`` is when the last line is ten seconds old."""
        state = self._tasks[task]
        now = time.monotonic()
        state.pace.advance(count, now)
        if now - state.last_line >= LINE_EVERY_SECONDS:
            state.last_line = now
            words = [state.count, str(state.pace), note]
            self._say(f"{task}: {', '.join(word for word in words if word)}")

    def set_total(self, task: str, total: int) -> None:
        """Count up to ``total`` from now on."""
        self._tasks[task].pace.total = total

    def finish(self, task: str) -> None:
        """Say that ``task`` has ended, and how long it took."""
        state = self._tasks.pop(task)
        seconds = time.monotonic() - state.started
        self._say(f"{task}: {state.count} in {seconds:.1f} s")

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
