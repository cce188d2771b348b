"""How a workflow tells how far it is, whoever listens: a terminal, a log, nobody."""

from __future__ import annotations

from typing import Protocol


class ProgressSink(Protocol):
    """Hears of tasks by name. Every method returns at once and never raises."""

    def start(self, task: str, total: int) -> None:
        """``task`` begins and has ``total`` steps; 0 when that is not known."""
        ...

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        """``count`` more steps are done; ``note`` is a short word on the last one."""
        ...

    def finish(self, task: str) -> None:
        """``task`` has ended, however many steps were done."""
        ...


class SilentProgress:
    """Listens to nothing."""

    def start(self, task: str, total: int) -> None:
        """Ignore the beginning of ``task``."""

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        """Ignore a step of ``task``."""

    def finish(self, task: str) -> None:
        """Ignore the end of ``task``."""
