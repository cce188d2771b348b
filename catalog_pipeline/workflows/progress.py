"""How a workflow tells how far it is, whoever listens: a terminal, a log, nobody."""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

_STEPS_REMEMBERED = 20
_MINUTE, _HOUR = 60.0, 3600.0


class ProgressSink(Protocol):
    """Hears of tasks by name. Every method returns at once and never raises."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """``task`` begins and has ``total`` steps; 0 when that is not known.

        ``done`` of them were done by an earlier run.
        """
        ...

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        """``count`` more steps are done; ``note`` is a short word on the last one."""
        ...

    def set_total(self, task: str, total: int) -> None:
        """``task``, which began with a total of 0, turns out to have ``total`` steps."""
        ...

    def finish(self, task: str) -> None:
        """``task`` has ended, however many steps were done."""
        ...


class SilentProgress:
    """Listens to nothing."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Ignore the beginning of ``task``."""

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        """Ignore a step of ``task``."""

    def set_total(self, task: str, total: int) -> None:
        """Ignore the length of ``task``."""

    def finish(self, task: str) -> None:
        """Ignore the end of ``task``."""


def beginning(total: int, done: int) -> str:
    """``started, 120 to do``, or ``resumed at 100 of 120``."""
    if done:
        return f"resumed at {done} of {total}" if total else f"resumed at {done}"
    return f"started, {total} to do" if total else "started"


class Pace:
    """How long a task still takes, by the speed of its last steps.

    Timed are the steps of this run alone: what a rerun finds finished would make the rest
    look quick.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        """``total`` steps, ``done`` before; a total of 0 is not known: nothing is foretold."""
        self.total = total
        self.done = done
        self._seen: deque[tuple[float, int]] = deque(maxlen=_STEPS_REMEMBERED)

    def advance(self, count: int, now: float | None = None) -> None:
        """``count`` more steps were done at ``now`` (default: this moment, monotonic)."""
        self.done += count
        self._seen.append((time.monotonic() if now is None else now, self.done))

    @property
    def seconds_left(self) -> float | None:
        """Until the end at this pace; ``None`` before there is a pace."""
        if not self._seen or not self.total:
            return None
        (first_time, first), (last_time, last) = self._seen[0], self._seen[-1]
        if last <= first or last_time <= first_time:
            return None
        return max(0, self.total - self.done) * (last_time - first_time) / (last - first)

    def __str__(self) -> str:
        """``about 4 min left``; empty while nobody knows, and at the end."""
        seconds = self.seconds_left
        if not seconds:
            return ""
        if seconds < 2 * _MINUTE:
            return f"about {seconds:.0f} s left"
        if seconds < 2 * _HOUR:
            return f"about {seconds / _MINUTE:.0f} min left"
        return f"about {seconds / _HOUR:.1f} h left"
