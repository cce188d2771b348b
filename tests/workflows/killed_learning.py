"""Learning that is killed, in processes forked from one that has the imports behind it.

Torch and diffusers are seconds of imports; a kill needs none of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Self

from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.progress import SilentProgress

REPOSITORY = Path(__file__).resolve().parents[2]


class KilledLearning:
    """``killed_learning(settings, 3, "learn mug")``: learn all that waits, until the kill."""

    def __init__(self) -> None:
        code = "from tests.workflows.killed_learning import fork_for_each; fork_for_each()"
        self._forker = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, settings: Settings, steps: int, within: str = "") -> None:
        """The process dies by SIGKILL after ``steps`` of the tasks with ``within`` in the name."""
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        print(
            json.dumps([settings.model_dump_json(), steps, within]),
            file=self._forker.stdin,
            flush=True,
        )
        assert int(self._forker.stdout.readline()) == -signal.SIGKILL

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forker.kill()
        self._forker.communicate()


class KillAt(SilentProgress):
    """Ends this process by SIGKILL after a number of steps of the tasks named ``within``."""

    def __init__(self, steps: int, within: str = "") -> None:
        self.left = steps
        self.within = within

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        self.left -= count if self.within in task else 0
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def fork_for_each() -> None:
    """A line of standard input is what to learn; the exit code of its process is the answer."""
    import catalog_pipeline.diffusion.sampling
    import catalog_pipeline.evaluation.product_mask
    import catalog_pipeline.learning.trainer  # noqa: F401 - all that learning imports

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _learn(*json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _learn(settings_json: str, steps: int, within: str) -> None:
    try:
        settings = Settings.model_validate_json(settings_json)
        list(learn_concepts(open_home(settings), progress=KillAt(steps, within)))
    except BaseException:
        traceback.print_exc()
    os._exit(1)
