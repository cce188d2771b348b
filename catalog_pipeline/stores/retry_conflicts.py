"""Retry a read-modify-write until it wins against the other writers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from catalog_pipeline.errors import ConflictError

_Result = TypeVar("_Result")

ATTEMPTS = 64
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.5


def until_won(attempt: Callable[[], _Result], what: str) -> _Result:
    """The result of ``attempt``, called again after each :class:`ConflictError`.

    ``attempt`` must read afresh and end in one compare-and-swap: then some writer
    wins every round, and random growing pauses keep the losers apart.

    Raises:
        ConflictError: lost 64 times in a row; names ``what``.
    """
    pause = _FIRST_PAUSE_SECONDS
    for _ in range(ATTEMPTS):
        try:
            return attempt()
        except ConflictError:
            time.sleep(random.uniform(0, pause))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    raise ConflictError(
        f"{what} changed {ATTEMPTS} times while this writer tried to change it; too many "
        "writers at once: run again"
    )
