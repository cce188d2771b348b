"""Progress of a step as a handful of log lines: every line of a run is stored for ever."""

import dagster as dg

LINES_PER_TASK = 10


class LogProgress:
    """A progress sink that writes about ten lines a task to the run's log."""

    def __init__(self, log: dg.DagsterLogManager) -> None:
        self._log = log
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def start(self, task: str, total: int) -> None:
        """Announce ``task`` of ``total`` units; 0 when the total is unknown."""
        self._done[task] = 0
        self._total[task] = total
        self._log.info(f"{task}: started, {total} to do")

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        """Count ``count`` more units; a line appears at every tenth of the total."""
        before = self._done.get(task, 0)
        total = self._total.get(task, 0)
        self._done[task] = before + count
        stride = max(1, total // LINES_PER_TASK)
        if self._done[task] // stride > before // stride:
            self._log.info(f"{task}: {self._done[task]} of {total} {note}".rstrip())

    def finish(self, task: str) -> None:
        """Close ``task``."""
        self._log.info(f"{task}: finished after {self._done.get(task, 0)}")
