"""Progress of a step as a handful of log lines: every line of a run is stored for ever."""

import dagster as dg

from catalog_pipeline.workflows.progress import Pace, beginning

LINES_PER_TASK = 10
_STRIDE_OF_UNKNOWN = 100


class LogProgress:
    """A progress sink that writes about ten lines a task to the run's log."""

    def __init__(self, log: dg.DagsterLogManager) -> None:
        self._log = log
        self._tasks: dict[str, Pace] = {}

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Announce ``task``, of whose ``total`` units (0 when unknown) ``done`` are done."""
        self._tasks[task] = Pace(total, done)
        self._log.info(f"{task}: {beginning(total, done)}")

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        """Count ``count`` more units; a line appears at every tenth of the total."""
        pace = self._tasks.setdefault(task, Pace(0))
        before = pace.done
        pace.advance(count)
        stride = max(1, pace.total // LINES_PER_TASK) if pace.total else _STRIDE_OF_UNKNOWN
        if pace.done // stride > before // stride:
            done = f"{pace.done} of {pace.total}" if pace.total else str(pace.done)
            words = [done, str(pace), note]
            self._log.info(f"{task}: {', '.join(word for word in words if word)}")

    def set_total(self, task: str, total: int) -> None:
        """Announce the length of ``task``; its lines are tenths of it from now on."""
        self._tasks[task].total = total
        self._log.info(f"{task}: {total} to do")

    def finish(self, task: str) -> None:
        """Close ``task``."""
        done = self._tasks.pop(task).done if task in self._tasks else 0
        self._log.info(f"{task}: finished after {done}")
